package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"

	pb "fairlead.test/client/stubs/fairlead/v1"
)

// arguments makes a payload of positional arguments.
func arguments(positional ...any) *httpbody.HttpBody {
	return argumentsWith(object{}, positional...)
}

// argumentsWith makes a payload of keyword and positional arguments.
func argumentsWith(keywords object, positional ...any) *httpbody.HttpBody {
	if positional == nil {
		positional = []any{}
	}
	return item([]any{positional, keywords})
}

// item makes a payload of one value.
func item(value any) *httpbody.HttpBody {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return &httpbody.HttpBody{ContentType: "application/json", Data: data}
}

func value(data []byte) (any, error) {
	var decoded any
	if err := json.Unmarshal(data, &decoded); err != nil {
		return nil, fmt.Errorf("not JSON: %q: %w", data, err)
	}
	return decoded, nil
}

func method(name string) *pb.Target {
	return &pb.Target{Application: "polyglot", Deployment: "Polyglot", Method: name}
}

// call calls a method once and decodes its result.
func (c *client) call(ctx context.Context, target *pb.Target, payload *httpbody.HttpBody) (any, error) {
	response, err := c.stub.Call(ctx, &pb.CallRequest{Target: target, Payload: payload})
	if err != nil {
		return nil, err
	}
	return value(response.Payload.Data)
}

type bodied interface{ GetPayload() *httpbody.HttpBody }

// items decodes what is left of a stream, until it ends well.
func items[T any, P interface {
	*T
	bodied
}](receive func() (P, error)) ([]any, error) {
	values := []any{}
	for {
		response, err := receive()
		if err == io.EOF {
			return values, nil
		}
		if err != nil {
			return values, err
		}
		decoded, err := value(response.GetPayload().GetData())
		if err != nil {
			return values, err
		}
		values = append(values, decoded)
	}
}

// onEveryReplica broadcasts and gives the ids that were announced and the results by id.
func (c *client) onEveryReplica(
	ctx context.Context, name string, payload *httpbody.HttpBody,
) ([]string, map[string]*pb.ReplicaResult, error) {
	stream, err := c.stub.Broadcast(ctx, &pb.BroadcastRequest{Target: method(name), Payload: payload})
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	if first.GetReplicas() == nil {
		return nil, nil, fmt.Errorf("the first answer does not name the replicas: %v", first)
	}
	ids := first.GetReplicas().ReplicaIds
	slices.Sort(ids)
	results := map[string]*pb.ReplicaResult{}
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return ids, results, nil
		}
		if err != nil {
			return nil, nil, err
		}
		result := response.GetResult()
		if result == nil || results[result.ReplicaId] != nil {
			return nil, nil, fmt.Errorf("unexpected answer: %v", response)
		}
		results[result.ReplicaId] = result
	}
}

// noticed waits until a replica says of a key that it has "started" or "cancelled".
func (c *client) noticed(ctx context.Context, what string, key string) (bool, error) {
	for {
		_, results, err := c.onEveryReplica(ctx, "observations", arguments())
		if err != nil {
			return false, err
		}
		for _, result := range results {
			var seen map[string][]string
			if err := json.Unmarshal(result.GetPayload().GetData(), &seen); err != nil {
				return false, err
			}
			if slices.Contains(seen[what], key) {
				return true, nil
			}
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// describe tells what a status says: code and message, and the ErrorInfo among its details.
func describe(failure *rpcstatus.Status) object {
	described := object{"code": code.Code(failure.GetCode()).String(), "message": failure.GetMessage()}
	for _, detail := range failure.GetDetails() {
		info := &errdetails.ErrorInfo{}
		if detail.UnmarshalTo(info) == nil {
			described["domain"] = info.Domain
			described["reason"] = info.Reason
			described["metadata"] = info.Metadata
		}
	}
	return described
}

func describeError(err error) object {
	return describe(status.Convert(err).Proto())
}

func codeOf(err error) string {
	return code.Code(status.Code(err)).String()
}
