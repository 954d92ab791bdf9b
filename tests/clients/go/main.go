// A client that has nothing but Fairlead's .proto files. It plays one scenario against a gateway and prints what it
// observed as one JSON object; tests/e2e/test_polyglot.py says what that must be.
//
//	client TARGET SCENARIO CANARY
//
// CANARY is a path that a pickle asks to be touched, which must not happen.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "fairlead.test/client/stubs/fairlead/v1"
)

// How long a scenario may take, and how long it waits for something to be noticed.
const patience = 30 * time.Second

type object = map[string]any

type client struct {
	stub   pb.ServingServiceClient
	canary string
}

var scenarios = map[string]func(*client, context.Context) (object, error){
	"unary":     (*client).unary,
	"options":   (*client).options,
	"stream":    (*client).stream,
	"bidi":      (*client).bidi,
	"broadcast": (*client).broadcast,
	"cancel":    (*client).cancel,
	"deadline":  (*client).deadline,
	"errors":    (*client).errors,
	"session":   (*client).session,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: client TARGET SCENARIO CANARY")
	}
	scenario, known := scenarios[arguments[1]]
	if !known {
		return fmt.Errorf("unknown scenario %q", arguments[1])
	}
	connection, err := grpc.NewClient(arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	observed, err := scenario(&client{pb.NewServingServiceClient(connection), arguments[2]}, ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", arguments[1], err)
	}
	return json.NewEncoder(os.Stdout).Encode(observed)
}
