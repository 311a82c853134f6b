package serve_test

import (
	"context"
	"fmt"
	"net"

	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/serve"
	"github.com/permafrost-ml/permafrost/sink/flight"
)

// A cache is served, and a client in another process, here in the same one,
// asks for an epoch from its second batch on.
func ExampleOpen() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cache, err := cachesink.Open(ctx, cachesink.Dir("../../cachesink/testdata/golden/v1"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	splits, err := serve.Open(ctx, cache, []*cachesink.Split{&cache.Manifest().Splits[0]})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer splits.Release()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- splits.Flight(ctx, flight.Options{}, l) }()

	if err := ask(l.Addr().String(), `{"split": "train", "shuffle": true, "seed": 42, "batch_size": 1, "first_batch": 1}`); err != nil {
		fmt.Println(err)
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// {"batch":1}: 1 rows
	// {"batch":2}: 1 rows
	// <nil>
}

func ask(addr, ticket string) error {
	client, err := arrowflight.NewClientWithMiddleware(addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer client.Close()
	stream, err := client.DoGet(context.Background(), &arrowflight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return err
	}
	batches, err := arrowflight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer batches.Release()
	for batches.Next() {
		fmt.Printf("%s: %d rows\n", batches.LatestAppMetadata(), batches.Record().NumRows())
	}
	return batches.Err()
}
