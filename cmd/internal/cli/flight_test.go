package cli

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// scriptFlight reads a stream of the server whose --json document is (or will
// be) in a file, and checks its rows; with "!" it must fail:
// flight DOC ROWS TICKET [TOKEN].
func scriptFlight(ts *testscript.TestScript, neg bool, args []string) {
	var doc serveDoc
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && json.Unmarshal(b, &doc) == nil {
			break
		}
		if time.Now().After(end) {
			ts.Fatalf("no document in %s after 30 s", args[0])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if len(args) > 3 {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+args[3])
	}
	rows, err := flightRows(ctx, strings.TrimPrefix(doc.Address, "grpc://"), args[2])
	if neg {
		if err == nil {
			ts.Fatalf("%d rows came", rows)
		}
		ts.Logf("%v", err)
		return
	}
	ts.Check(err)
	if strconv.FormatInt(rows, 10) != args[1] {
		ts.Fatalf("%d rows, want %s", rows, args[1])
	}
}

func flightRows(ctx context.Context, addr, ticket string) (rows int64, err error) {
	c, err := flight.NewClientWithMiddleware(addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return 0, err
	}
	r, err := flight.NewRecordReader(s)
	if err != nil {
		return 0, err
	}
	defer r.Release()
	for r.Next() {
		rows += r.Record().NumRows()
	}
	return rows, r.Err()
}
