package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "fairlead.test/client/stubs/fairlead/v1"
)

func (c *client) unary(ctx context.Context) (object, error) {
	response, err := c.stub.Call(ctx, &pb.CallRequest{
		Target: method("echo"), Payload: argumentsWith(object{"punctuation": "!"}, "hello"),
	})
	if err != nil {
		return nil, err
	}
	answer, err := value(response.Payload.Data)
	if err != nil {
		return nil, err
	}
	// No name at all: the only application, its ingress deployment, __call__ without arguments.
	byDefault, err := c.call(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	return object{"value": answer, "content_type": response.Payload.ContentType, "by_default": byDefault}, nil
}

func (c *client) options(ctx context.Context) (object, error) {
	var trailer metadata.MD
	target := method("describe")
	target.RequestId, target.MultiplexedModelId, target.Idempotent = "from-the-field", "model-1", true
	response, err := c.stub.Call(ctx, &pb.CallRequest{Target: target}, grpc.Trailer(&trailer))
	if err != nil {
		return nil, err
	}
	described, err := value(response.Payload.Data)
	if err != nil {
		return nil, err
	}
	observed := object{"described": described, "echoed": requestID(trailer)}

	tagged := metadata.AppendToOutgoingContext(ctx, "x-request-id", "from-metadata")
	if response, err = c.stub.Call(tagged, &pb.CallRequest{Target: method("describe")}, grpc.Trailer(&trailer)); err != nil {
		return nil, err
	}
	if described, err = value(response.Payload.Data); err != nil {
		return nil, err
	}
	observed["described_by_metadata"], observed["echoed_from_metadata"] = described, requestID(trailer)

	if _, err = c.stub.Call(ctx, &pb.CallRequest{Target: method("describe")}, grpc.Trailer(&trailer)); err != nil {
		return nil, err
	}
	observed["generated"] = requestID(trailer) != "" && requestID(trailer) != "from-metadata"

	target = method("echo")
	target.Accept = "application/msgpack"
	response, err = c.stub.Call(ctx, &pb.CallRequest{Target: target, Payload: arguments("x")})
	if err != nil {
		return nil, err
	}
	observed["accepted"] = object{"content_type": response.Payload.ContentType, "data": response.Payload.Data}

	target = method("whoami")
	target.SessionId = "session-1"
	replicas := map[any]bool{}
	for range 12 {
		replica, err := c.call(ctx, target, nil)
		if err != nil {
			return nil, err
		}
		replicas[replica] = true
	}
	observed["session_replicas"] = len(replicas)
	return observed, nil
}

func requestID(trailer metadata.MD) string {
	return strings.Join(trailer.Get("x-request-id"), ",")
}

func (c *client) stream(ctx context.Context) (object, error) {
	stream, err := c.stub.CallStream(ctx, &pb.CallStreamRequest{Target: method("count"), Payload: arguments(5)})
	if err != nil {
		return nil, err
	}
	values, err := items(stream.Recv)
	if err != nil {
		return nil, err
	}
	// One that fails after its first items: those arrive, then the error.
	stream, err = c.stub.CallStream(ctx, &pb.CallStreamRequest{Target: method("count_then_fail"), Payload: arguments(2)})
	if err != nil {
		return nil, err
	}
	before, err := items(stream.Recv)
	return object{"values": values, "before_failure": before, "failure": describeError(err)}, nil
}

func (c *client) bidi(ctx context.Context) (object, error) {
	stream, err := c.stub.CallBidi(ctx)
	if err != nil {
		return nil, err
	}
	first := &pb.CallBidiRequest{Target: method("chat"), Payload: argumentsWith(object{"prefix": ">"})}
	if err := stream.Send(first); err != nil {
		return nil, err
	}
	replies := []any{}
	for _, message := range []string{"a", "b", "c"} {
		if err := stream.Send(&pb.CallBidiRequest{Payload: item(message)}); err != nil {
			return nil, err
		}
		// Answered before the next one is sent: both directions are open at once.
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		reply, err := value(response.Payload.Data)
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	rest, err := items(stream.Recv)
	if err != nil {
		return nil, err
	}
	total, err := c.total(ctx)
	if err != nil {
		return nil, err
	}
	return object{"replies": replies, "rest": rest, "total": total}, nil
}

// total streams to a method that answers once.
func (c *client) total(ctx context.Context) ([]any, error) {
	stream, err := c.stub.CallBidi(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.CallBidiRequest{Target: method("total"), Payload: arguments()}); err != nil {
		return nil, err
	}
	for number := range 4 {
		if err := stream.Send(&pb.CallBidiRequest{Payload: item(number)}); err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return items(stream.Recv)
}

func (c *client) broadcast(ctx context.Context) (object, error) {
	ids, results, err := c.onEveryReplica(ctx, "whoami", arguments())
	if err != nil {
		return nil, err
	}
	values := object{}
	for id, result := range results {
		if values[id], err = value(result.GetPayload().GetData()); err != nil {
			return nil, err
		}
	}
	again, partial, err := c.onEveryReplica(ctx, "fail_on", arguments(ids[0]))
	if err != nil {
		return nil, err
	}
	codes := object{}
	for _, id := range again {
		codes[id] = describe(partial[id].GetStatus())["code"]
	}
	return object{"replica_ids": ids, "values": values, "codes": codes, "failure": describe(partial[ids[0]].GetStatus())}, nil
}

func (c *client) cancel(ctx context.Context) (object, error) {
	observed := object{}
	unary, cancelUnary := context.WithCancel(ctx)
	defer cancelUnary()
	failed := make(chan error, 1)
	go func() {
		_, err := c.call(unary, method("sleep"), arguments(60, "go-unary"))
		failed <- err
	}()
	if started, err := c.noticed(ctx, "started", "go-unary"); err != nil || !started {
		return nil, fmt.Errorf("the call did not start: %w", err)
	}
	cancelUnary()
	code := codeOf(<-failed)
	noticed, err := c.noticed(ctx, "cancelled", "go-unary")
	if err != nil {
		return nil, err
	}
	observed["unary"] = object{"code": code, "noticed": noticed}

	streaming, cancelStream := context.WithCancel(ctx)
	defer cancelStream()
	request := &pb.CallStreamRequest{Target: method("tick"), Payload: arguments("go-stream")}
	stream, err := c.stub.CallStream(streaming, request)
	if err != nil {
		return nil, err
	}
	for range 3 {
		if _, err := stream.Recv(); err != nil {
			return nil, err
		}
	}
	cancelStream()
	_, err = items(stream.Recv)
	code = codeOf(err)
	if noticed, err = c.noticed(ctx, "cancelled", "go-stream"); err != nil {
		return nil, err
	}
	observed["stream"] = object{"code": code, "noticed": noticed}
	return observed, nil
}

func (c *client) deadline(ctx context.Context) (object, error) {
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := c.call(short, method("sleep"), arguments(60, "go-deadline"))
	code := codeOf(err)
	noticed, err := c.noticed(ctx, "cancelled", "go-deadline")
	if err != nil {
		return nil, err
	}
	return object{"code": code, "noticed": noticed}, nil
}

func (c *client) errors(ctx context.Context) (object, error) {
	pickle := func(mediaType string) *httpbody.HttpBody {
		canary := fmt.Sprintf("cos\nsystem\n(S'touch %s'\ntR.", c.canary)
		return &httpbody.HttpBody{ContentType: mediaType, Data: []byte(canary)}
	}
	accepting := method("echo")
	accepting.Accept = "application/vnd.fairlead.pickle"
	calls := map[string]*pb.CallRequest{
		"user_exception":      {Target: method("fail"), Payload: arguments("boom")},
		"unknown_application": {Target: &pb.Target{Application: "nowhere"}},
		"unknown_deployment":  {Target: &pb.Target{Application: "polyglot", Deployment: "Nobody"}},
		"unknown_method":      {Target: method("nothing")},
		"cloudpickle":         {Target: method("echo"), Payload: pickle("application/vnd.fairlead.cloudpickle")},
		"pickle":              {Target: method("echo"), Payload: pickle("application/vnd.fairlead.pickle")},
		"accept_pickle":       {Target: accepting, Payload: arguments("x")},
		"unknown_media_type":  {Target: method("echo"), Payload: &httpbody.HttpBody{ContentType: "text/plain"}},
		"undecodable":         {Target: method("echo"), Payload: &httpbody.HttpBody{Data: []byte("{")}},
		"wrong_arity":         {Target: method("echo"), Payload: arguments(1, 2, 3, 4)},
		"unserializable":      {Target: method("unserializable")},
		"streaming_method":    {Target: method("count"), Payload: arguments(3)},
	}
	observed := object{}
	for name, request := range calls {
		_, err := c.stub.Call(ctx, request)
		observed[name] = describeError(err)
	}
	stream, err := c.stub.CallStream(ctx, &pb.CallStreamRequest{Target: method("echo"), Payload: arguments("x")})
	if err == nil {
		_, err = items(stream.Recv)
	}
	observed["unary_method"] = describeError(err)
	return observed, nil
}
