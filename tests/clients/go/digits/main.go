// Calls the digits example by the stubs of the service that was derived from it, and prints what it was answered, as
// tests/e2e/test_typed_clients.py expects it.
//
//	digits TARGET IMAGE ROWS COLUMNS
//
// IMAGE is a file of pixels, little-endian floats of 32 bits.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	digits "fairlead.test/client/stubs/digits/v1"
	fairlead "fairlead.test/client/stubs/fairlead/v1"
)

const (
	several  = 3
	patience = 30 * time.Second
)

type client struct {
	stub          digits.DigitsServiceClient
	pixels        []byte
	rows, columns int64
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 4 {
		return errors.New("usage: digits TARGET IMAGE ROWS COLUMNS")
	}
	pixels, err := os.ReadFile(arguments[1])
	if err != nil {
		return err
	}
	rows, err := strconv.ParseInt(arguments[2], 10, 64)
	if err != nil {
		return err
	}
	columns, err := strconv.ParseInt(arguments[3], 10, 64)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := &client{digits.NewDigitsServiceClient(connection), pixels, rows, columns}
	for _, part := range []func(context.Context) error{c.unary, c.serverStream, c.bidi, c.refused} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) image() *fairlead.Tensor {
	return &fairlead.Tensor{
		DataType: fairlead.DataType_DATA_TYPE_FLOAT32,
		Shape:    []int64{c.rows, c.columns},
		Data:     c.pixels,
	}
}

func (c *client) unary(ctx context.Context) error {
	answer, err := c.stub.Classify(ctx, &digits.ClassifyRequest{Image: c.image()})
	if err != nil {
		return err
	}
	fmt.Printf("classify: %d\n", answer.GetResult().GetDigit())
	accuracy, err := c.stub.Accuracy(ctx, &digits.AccuracyRequest{})
	if err != nil {
		return err
	}
	fmt.Printf("accuracy above 0.97: %t\n", accuracy.GetResult() > 0.97)
	return nil
}

func (c *client) serverStream(ctx context.Context) error {
	images := &fairlead.Tensor{
		DataType: fairlead.DataType_DATA_TYPE_FLOAT32,
		Shape:    []int64{several, c.rows, c.columns},
		Data:     bytes.Repeat(c.pixels, several),
	}
	answers, err := c.stub.ClassifyAll(ctx, &digits.ClassifyAllRequest{Images: images})
	if err != nil {
		return err
	}
	for {
		answer, err := answers.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("classify all: %d is %d\n", answer.GetResult().GetImage(), answer.GetResult().GetDigit())
	}
}

// Sends each image only after the one before it was answered.
func (c *client) bidi(ctx context.Context) error {
	stream, err := c.stub.ClassifyStream(ctx)
	if err != nil {
		return err
	}
	for range several {
		if err := stream.Send(&digits.ClassifyStreamRequest{Images: c.image()}); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		fmt.Printf("classify stream: %d\n", answer.GetResult().GetDigit())
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream does not end: %w", err)
	}
	fmt.Println("classify stream ends")
	return nil
}

func (c *client) refused(ctx context.Context) error {
	image := c.image()
	image.Shape = append(image.Shape, 2)
	_, err := c.stub.Classify(ctx, &digits.ClassifyRequest{Image: image})
	refusal, known := status.FromError(err)
	if !known {
		return err
	}
	fmt.Printf("refused with %d: %s\n", refusal.Code(), refusal.Message())
	return nil
}
