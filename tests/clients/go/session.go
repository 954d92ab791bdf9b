package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/grpc"

	pb "fairlead.test/client/stubs/fairlead/v1"
)

// overhead is what a frame costs beyond its payload: see session.proto.
const overhead = 256

// A frameSession reads the frames of many calls and gives back the credit that their messages cost.
type frameSession struct {
	stream grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse]
	items  map[uint64][]any
	ends   map[uint64]*pb.Frame
}

func (s *frameSession) send(frames ...*pb.Frame) error {
	return s.stream.Send(&pb.SessionRequest{Frames: frames})
}

// receive takes one packet.
func (s *frameSession) receive() error {
	packet, err := s.stream.Recv()
	if err != nil {
		return err
	}
	credits := []*pb.Frame{}
	for _, frame := range packet.Frames {
		switch frame.Kind {
		case pb.FrameKind_FRAME_KIND_DATA:
			decoded, err := value(frame.Payload)
			if err != nil {
				return err
			}
			s.items[frame.CallId] = append(s.items[frame.CallId], decoded)
			credits = append(credits, &pb.Frame{
				Kind: pb.FrameKind_FRAME_KIND_CREDIT, CallId: frame.CallId, Credit: uint32(len(frame.Payload) + overhead),
			})
		case pb.FrameKind_FRAME_KIND_END:
			s.ends[frame.CallId] = frame
		case pb.FrameKind_FRAME_KIND_CREDIT:
		default:
			return fmt.Errorf("unexpected frame: %v", frame)
		}
	}
	if len(credits) == 0 {
		return nil
	}
	return s.send(credits...)
}

// until takes packets until a condition holds.
func (s *frameSession) until(holds func() bool) error {
	for !holds() {
		if err := s.receive(); err != nil {
			return err
		}
	}
	return nil
}

func openFrame(id uint64, name string, arguments []byte, header *pb.CallHeader) *pb.Frame {
	header.Application, header.Deployment, header.Method = "polyglot", "Polyglot", name
	header.RequestSerialization = pb.Serialization_SERIALIZATION_JSON
	header.ResponseSerialization = pb.Serialization_SERIALIZATION_JSON
	return &pb.Frame{Kind: pb.FrameKind_FRAME_KIND_OPEN, CallId: id, Header: header, Payload: arguments, Last: true}
}

func (c *client) session(ctx context.Context) (object, error) {
	stream, err := c.stub.Session(ctx)
	if err != nil {
		return nil, err
	}
	s := &frameSession{stream, map[uint64][]any{}, map[uint64]*pb.Frame{}}
	chat := openFrame(4, "chat", argumentsWith(object{"prefix": ">"}).Data, &pb.CallHeader{Stream: true})
	chat.Last = false
	// Seven calls in one packet.
	if err := s.send(
		openFrame(1, "echo", arguments("one").Data, &pb.CallHeader{}),
		openFrame(2, "echo", arguments("two").Data, &pb.CallHeader{}),
		openFrame(3, "count", arguments(3000).Data, &pb.CallHeader{Stream: true}),
		chat,
		openFrame(5, "fail", arguments("boom").Data, &pb.CallHeader{}),
		openFrame(6, "sleep", arguments(60, "go-session-deadline").Data, &pb.CallHeader{TimeoutUs: 500_000}),
		openFrame(7, "sleep", arguments(60, "go-session-cancel").Data, &pb.CallHeader{}),
	); err != nil {
		return nil, err
	}
	for number, message := range []string{"a", "b"} {
		data := &pb.Frame{Kind: pb.FrameKind_FRAME_KIND_DATA, CallId: 4, Payload: item(message).Data, Last: message == "b"}
		if err := s.send(data); err != nil {
			return nil, err
		}
		if err := s.until(func() bool { return len(s.items[4]) > number }); err != nil {
			return nil, err
		}
	}
	if started, err := c.noticed(ctx, "started", "go-session-cancel"); err != nil || !started {
		return nil, fmt.Errorf("the call did not start: %w", err)
	}
	if err := s.send(&pb.Frame{Kind: pb.FrameKind_FRAME_KIND_CANCEL, CallId: 7}); err != nil {
		return nil, err
	}
	if err := s.until(func() bool { return len(s.ends) == 7 }); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for err = s.receive(); err == nil; err = s.receive() {
	}
	if err != io.EOF {
		return nil, err
	}
	return s.observed()
}

// observed tells how each call went.
func (s *frameSession) observed() (object, error) {
	calls := object{}
	for id, end := range s.ends {
		call := object{}
		if values := s.items[id]; len(values) <= 10 {
			call["items"] = append([]any{}, values...)
		} else {
			call["count"] = len(values)
			call["in_order"] = inOrder(values)
		}
		if end.Outcome != nil {
			call["failure"] = describe(end.Outcome.Status)
		}
		if end.HasPayload {
			decoded, err := value(end.Payload)
			if err != nil {
				return nil, err
			}
			call["value"] = decoded
		}
		calls[strconv.FormatUint(id, 10)] = call
	}
	return object{"calls": calls}, nil
}

func inOrder(values []any) bool {
	for position, number := range values {
		if number != float64(position) {
			return false
		}
	}
	return true
}
