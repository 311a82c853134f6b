package flight_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/permafrost-ml/permafrost/sink/flight"
	"github.com/permafrost-ml/permafrost/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func checked(t *testing.T) memory.Allocator {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

var errTable = errors.New("the table is damaged")

// table makes rows from their numbers; broken is a row that it fails at, and
// bomb one that it panics at.
type table struct {
	mem          memory.Allocator
	rows         int64
	dim          int32
	text         string
	broken, bomb int64
	columns      []string
	gathers      *atomic.Int64
}

func newTable(mem memory.Allocator, rows int64, dim int32) *table {
	return &table{mem: mem, rows: rows, dim: dim, broken: -1, bomb: -1, columns: []string{"row", "text", "v"}, gathers: new(atomic.Int64)}
}

func (t *table) Rows() int64 { return t.rows }

func (t *table) Schema() *arrow.Schema {
	all := map[string]arrow.DataType{
		"row": arrow.PrimitiveTypes.Int64, "text": arrow.BinaryTypes.String, "v": arrow.FixedSizeListOf(t.dim, arrow.PrimitiveTypes.Float32),
	}
	var fields []arrow.Field
	for _, c := range t.columns {
		fields = append(fields, arrow.Field{Name: c, Type: all[c], Nullable: c == "text"})
	}
	md := arrow.NewMetadata([]string{"permafrost.split"}, []string{"train"})
	return arrow.NewSchema(fields, &md)
}

func (t *table) Select(columns ...string) (flight.Table, error) {
	out := *t
	out.columns = slices.DeleteFunc(slices.Clone(t.columns), func(c string) bool { return !slices.Contains(columns, c) })
	return &out, nil
}

func (t *table) Gather(_ context.Context, rows []int64) (arrow.Record, error) {
	t.gathers.Add(1)
	if slices.Contains(rows, t.bomb) {
		panic("a bomb")
	}
	if slices.Contains(rows, t.broken) {
		return nil, fmt.Errorf("row %d: %w", t.broken, errTable)
	}
	b := array.NewRecordBuilder(t.mem, t.Schema())
	defer b.Release()
	for _, row := range rows {
		for i, c := range t.columns {
			switch c {
			case "row":
				b.Field(i).(*array.Int64Builder).Append(row)
			case "text":
				if row%5 == 0 {
					b.Field(i).AppendNull()
					continue
				}
				b.Field(i).(*array.StringBuilder).Append(fmt.Sprint("text ", row, t.text))
			case "v":
				list := b.Field(i).(*array.FixedSizeListBuilder)
				list.Append(true)
				for k := range t.dim {
					list.ValueBuilder().(*array.Float32Builder).Append(math.Float32frombits(0x3f800000 + uint32(row)*uint32(t.dim) + uint32(k)))
				}
			}
		}
	}
	return b.NewRecord(), nil
}

// started is a server that runs until the end of the test, or stop.
type started struct {
	addr string
	stop func() error // ends it, once, and returns what Serve did
}

func start(t *testing.T, o flight.Options) started {
	t.Helper()
	srv, err := flight.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, l) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return started{l.Addr().String(), stop}
}

// dial returns a client; a nil TLS config is a connection in the clear.
func dial(t *testing.T, addr, token string, tc *tls.Config) arrowflight.Client {
	t.Helper()
	creds := insecure.NewCredentials()
	if tc != nil {
		creds = credentials.NewTLS(tc)
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithNoProxy()}
	if token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(token)))
	}
	c, err := arrowflight.NewClientWithMiddleware(addr, nil, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(b)}, nil
}
func (bearer) RequireTransportSecurity() bool { return false }

func get(ctx context.Context, c arrowflight.Client, ticket string) (arrowflight.FlightService_DoGetClient, error) {
	return c.DoGet(ctx, &arrowflight.Ticket{Ticket: []byte(ticket)})
}

// fetch returns a stream's batches as text, each with its metadata.
func fetch(t *testing.T, c arrowflight.Client, ticket string) (*arrow.Schema, []string, error) {
	t.Helper()
	s, err := get(t.Context(), c, ticket)
	if err != nil {
		return nil, nil, err
	}
	r, err := arrowflight.NewRecordReader(s)
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	var out []string
	for r.Next() {
		out = append(out, fmt.Sprint(string(r.LatestAppMetadata()), r.Record()))
	}
	return r.Schema(), out, r.Err()
}

// TestDoGet compares what arrives, whatever the ticket, with the replay of the
// table itself.
func TestDoGet(t *testing.T) {
	mem := checked(t)
	tab := newTable(mem, 1003, 3)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"train": tab, "none": newTable(mem, 0, 3)}, Allocator: mem})
	c := dial(t, srv.addr, "", nil)
	for _, tc := range []struct {
		ticket string
		opts   source.ReplayOptions
		epoch  int
		first  int64
		cols   []string
	}{
		{`{"split":"train"}`, source.ReplayOptions{Sequential: true}, 0, 0, nil},
		{`{"split":"train","shuffle":true,"seed":18446744073709551615,"epoch":7,"batch_size":100}`, source.ReplayOptions{Seed: math.MaxUint64, BatchSize: 100}, 7, 0, nil},
		{`{"split":"train","shuffle":true,"batch_size":100,"drop_last":true,"world_size":3,"rank":2}`, source.ReplayOptions{BatchSize: 100, DropLast: true, World: 3, Rank: 2}, 0, 0, nil},
		{`{"split":"train","shuffle":true,"batch_size":10,"world_size":2,"rank":1,"first_batch":51}`, source.ReplayOptions{BatchSize: 10, World: 2, Rank: 1}, 0, 51, nil},
		{`{"split":"train","batch_size":5000,"columns":["v","row"]}`, source.ReplayOptions{Sequential: true, BatchSize: 5000}, 0, 0, []string{"row", "v"}},
		{`{"split":"train","first_batch":4}`, source.ReplayOptions{Sequential: true}, 0, 4, nil},
		{`{"split":"none"}`, source.ReplayOptions{}, 0, 0, nil},
	} {
		want := []string{}
		of := newTable(mem, 1003, 3)
		if strings.Contains(tc.ticket, "none") {
			of = newTable(mem, 0, 3)
		}
		if tc.cols != nil {
			of.columns = tc.cols
		}
		r, err := source.Replay(of, tc.opts)
		if err != nil {
			t.Fatal(err)
		}
		batch, rows := tc.first+int64(tc.opts.Rank), int64(0)
		for rec, err := range r.EpochFrom(t.Context(), tc.epoch, tc.first) {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(fmt.Sprintf(`{"batch":%d}`, batch), rec))
			batch += int64(max(tc.opts.World, 1))
			rows += rec.NumRows()
		}
		schema, got, err := fetch(t, c, tc.ticket)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d batches, want %d (%v)", tc.ticket, len(got), len(want), err)
			continue
		}
		if md := schema.Metadata(); !schema.Equal(of.Schema()) || len(md.Keys()) != 1 {
			t.Errorf("%s: the schema is %v", tc.ticket, schema)
		}
		info, err := c.GetFlightInfo(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorCMD, Cmd: []byte(tc.ticket)})
		if err != nil || info.TotalRecords != rows || string(info.AppMetadata) != fmt.Sprintf(`{"batches":%d}`, r.Batches(tc.epoch)) || len(info.Endpoint) != 1 {
			t.Errorf("%s: %v, want %d rows (%v)", tc.ticket, info, rows, err)
			continue
		}
		if _, got, err = fetch(t, c, string(info.Endpoint[0].Ticket.Ticket)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: the endpoint gives %d batches, want %d (%v)", tc.ticket, len(got), len(want), err)
		}
	}
}

func TestListFlights(t *testing.T) {
	mem := checked(t)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"val": newTable(mem, 10, 3), "train": newTable(mem, 300, 3)}})
	c := dial(t, srv.addr, "", nil)
	list, err := c.ListFlights(t.Context(), &arrowflight.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for info, err := list.Recv(); err == nil; info, err = list.Recv() {
		got = append(got, fmt.Sprintln(info.FlightDescriptor.Path, info.TotalRecords, string(info.Endpoint[0].Ticket.Ticket)))
		schema, err := c.GetSchema(t.Context(), info.FlightDescriptor)
		if err != nil {
			t.Fatal(err)
		}
		s, err := arrowflight.DeserializeSchema(schema.Schema, mem)
		if err != nil || !s.Equal(newTable(mem, 0, 3).Schema()) {
			t.Errorf("the schema is %v (%v)", s, err)
		}
	}
	want := []string{
		`[train] 300 {"split":"train","batch_size":256,"world_size":1}` + "\n",
		`[val] 10 {"split":"val","batch_size":256,"world_size":1}` + "\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the flights are %q, want %q", got, want)
	}
}

// TestRefusals: every error has its code, and none ends the server.
func TestRefusals(t *testing.T) {
	mem := checked(t)
	broken, bomb := newTable(mem, 100, 3), newTable(mem, 100, 3)
	broken.broken, bomb.bomb = 60, 60
	long := newTable(mem, 300, 3)
	long.text = strings.Repeat("x", 1000)
	srv := start(t, flight.Options{
		Splits:        map[string]flight.Table{"train": newTable(mem, 100, 3), "broken": broken, "bomb": bomb, "wide": newTable(mem, 1<<40, 500), "long": long},
		MaxBatchBytes: 200_000,
		Code: func(err error) codes.Code {
			if errors.Is(err, errTable) {
				return codes.DataLoss
			}
			return codes.Internal
		},
		Allocator: mem,
	})
	c := dial(t, srv.addr, "", nil)
	for _, tc := range []struct {
		ticket string
		code   codes.Code
		text   string
	}{
		{``, codes.NotFound, `["bomb" "broken" "long" "train" "wide"]`},
		{`{"split":"test"}`, codes.NotFound, `"test"`},
		{`{"split":"train","columns":["w"]}`, codes.NotFound, `"w"`},
		{`{`, codes.InvalidArgument, "bad ticket"},
		{`{"split":"train","shufle":true}`, codes.InvalidArgument, "shufle"},
		{`{"split":"train","seed":-1}`, codes.InvalidArgument, "seed"},
		{`{"split":"train","epoch":-1}`, codes.InvalidArgument, "epoch is -1"},
		{`{"split":"train","batch_size":-1}`, codes.InvalidArgument, "batch_size is -1"},
		{`{"split":"train","first_batch":-1}`, codes.InvalidArgument, "first_batch is -1"},
		{`{"split":"train","first_batch":9223372036854775807,"world_size":2,"rank":1}`, codes.InvalidArgument, "first_batch"},
		{`{"split":"train","world_size":2,"rank":2}`, codes.InvalidArgument, "no rank 2 of 2"},
		{`{"split":"train","world_size":9223372036854775807}`, codes.InvalidArgument, "rank"},
		{`{"split":"wide"}`, codes.ResourceExhausted, "smaller batch_size"},
		{`{"split":"wide","batch_size":9223372036854775807}`, codes.ResourceExhausted, "smaller batch_size"},
		{`{"split":"long"}`, codes.ResourceExhausted, "smaller batch_size"},
		{`{"split":"broken","batch_size":50}`, codes.DataLoss, "damaged"},
		{`{"split":"bomb","batch_size":50}`, codes.Internal, "internal error"},
	} {
		_, got, err := fetch(t, c, tc.ticket)
		if st, _ := status.FromError(err); st.Code() != tc.code || !strings.Contains(st.Message(), tc.text) {
			t.Errorf("%s: %v and %d batches, want %v with %q", tc.ticket, err, len(got), tc.code, tc.text)
		}
	}
	for _, d := range []*arrowflight.FlightDescriptor{{}, {Type: arrowflight.DescriptorPATH, Path: []string{"train", "x"}}, {Type: arrowflight.DescriptorCMD, Cmd: []byte("x")}} {
		if _, err := c.GetFlightInfo(t.Context(), d); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", d, err)
		}
		if _, err := c.GetSchema(t.Context(), d); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", d, err)
		}
	}
	put, err := c.DoPut(t.Context())
	if err == nil {
		_, err = put.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("DoPut: %v", err)
	}
	if _, got, err := fetch(t, c, `{"split":"train"}`); err != nil || len(got) != 1 {
		t.Errorf("the server after all this: %d batches, %v", len(got), err)
	}
}

// TestOptions that make no server.
func TestOptions(t *testing.T) {
	for _, o := range []flight.Options{{MaxConnections: -1}, {MaxStreams: -1}, {MaxBatchBytes: -1}, {StopTime: -1}} {
		if _, err := flight.New(o); err == nil {
			t.Errorf("%+v makes a server", o)
		}
	}
}
