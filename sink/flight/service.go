package flight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errStopping = errors.New("the server is stopping: go on later with first_batch")
	errNoSplit  = errors.New("no such split")
	errNoColumn = errors.New("no such column")
	errLimit    = errors.New("a limit of the server")
)

// service answers the methods of Flight.
type service struct {
	arrowflight.BaseFlightServer
	opts    Options
	streams chan struct{} // a token for each that is under way

	stopping context.Context // ends when streams shall
	stop     context.CancelCauseFunc
}

func newService(o Options) *service {
	s := &service{opts: o, streams: make(chan struct{}, o.MaxStreams)}
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	return s
}

// code says what an error is to clients.
func (s *service) code(err error) codes.Code {
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	switch {
	case errors.Is(err, errTicket):
		return codes.InvalidArgument
	case errors.Is(err, errNoSplit), errors.Is(err, errNoColumn):
		return codes.NotFound
	case errors.Is(err, errLimit):
		return codes.ResourceExhausted
	case errors.Is(err, errStopping):
		return codes.Unavailable
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return s.opts.Code(err)
}

// open returns the table that a ticket is of, with its columns.
func (s *service) open(t Ticket) (Table, error) {
	table, ok := s.opts.Splits[t.Split]
	if !ok {
		return nil, fmt.Errorf("%w: %q, there are %q", errNoSplit, t.Split, s.names())
	}
	if len(t.Columns) == 0 {
		return table, nil
	}
	for _, c := range t.Columns {
		if !table.Schema().HasField(c) {
			return nil, fmt.Errorf("%w: split %q has no %q", errNoColumn, t.Split, c)
		}
	}
	return table.Select(t.Columns...)
}

func (s *service) names() []string { return slices.Sorted(maps.Keys(s.opts.Splits)) }

// ListFlights gives every split, in the order of the dataset.
func (s *service) ListFlights(_ *arrowflight.Criteria, out arrowflight.FlightService_ListFlightsServer) error {
	for _, name := range s.names() {
		info, err := s.info(pathOf(name), Ticket{Split: name}.marshal())
		if err != nil {
			return err
		}
		if err := out.Send(info); err != nil {
			return err
		}
	}
	return nil
}

func pathOf(split string) *arrowflight.FlightDescriptor {
	return &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{split}}
}

// GetFlightInfo says what a descriptor stands for.
func (s *service) GetFlightInfo(_ context.Context, d *arrowflight.FlightDescriptor) (*arrowflight.FlightInfo, error) {
	ticket, err := ticketOf(d)
	if err != nil {
		return nil, err
	}
	return s.info(d, ticket)
}

// GetSchema gives the schema of what a descriptor stands for.
func (s *service) GetSchema(ctx context.Context, d *arrowflight.FlightDescriptor) (*arrowflight.SchemaResult, error) {
	info, err := s.GetFlightInfo(ctx, d)
	if err != nil {
		return nil, err
	}
	return &arrowflight.SchemaResult{Schema: info.Schema}, nil
}

// ticketOf returns the ticket of a descriptor, as JSON.
func ticketOf(d *arrowflight.FlightDescriptor) ([]byte, error) {
	switch {
	case d.GetType() == arrowflight.DescriptorCMD:
		return d.Cmd, nil
	case d.GetType() == arrowflight.DescriptorPATH && len(d.Path) == 1:
		return Ticket{Split: d.Path[0]}.marshal(), nil
	}
	return nil, fmt.Errorf("%w: want a path of one name or a command", errTicket)
}

func (s *service) info(d *arrowflight.FlightDescriptor, ticket []byte) (*arrowflight.FlightInfo, error) {
	t, err := parseTicket(ticket)
	if err != nil {
		return nil, err
	}
	table, err := s.open(t)
	if err != nil {
		return nil, err
	}
	replay, err := t.replay(table)
	if err != nil {
		return nil, err
	}
	return &arrowflight.FlightInfo{
		Schema:           arrowflight.SerializeSchema(table.Schema(), s.opts.Allocator),
		FlightDescriptor: d,
		Endpoint:         []*arrowflight.FlightEndpoint{{Ticket: &arrowflight.Ticket{Ticket: t.marshal()}}},
		TotalRecords:     t.rows(table.Rows(), replay.Batches(t.Epoch)),
		TotalBytes:       -1, // not known before texts are gathered
		Ordered:          true,
		AppMetadata:      fmt.Appendf(nil, `{"batches":%d}`, replay.Batches(t.Epoch)),
	}, nil
}

// DoGet gives the batches of a ticket.
func (s *service) DoGet(raw *arrowflight.Ticket, out arrowflight.FlightService_DoGetServer) error {
	t, err := parseTicket(raw.GetTicket())
	if err != nil {
		return err
	}
	table, err := s.open(t)
	if err != nil {
		return err
	}
	replay, err := t.replay(table)
	if err != nil {
		return err
	}
	if n := min(int64(t.BatchSize), table.Rows()) * rowBytes(table.Schema()); n > s.opts.MaxBatchBytes {
		return s.tooLarge(n)
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return fmt.Errorf("%w: %d streams are under way", errLimit, s.opts.MaxStreams)
	}
	ctx, cancel := context.WithCancelCause(out.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.stopping, func() { cancel(context.Cause(s.stopping)) })()

	w := arrowflight.NewRecordWriter(&bounded{out, s}, ipc.WithSchema(table.Schema()), ipc.WithAllocator(s.opts.Allocator))
	number := t.FirstBatch + int64(t.Rank)
	for rec, err := range replay.EpochFrom(ctx, t.Epoch, t.FirstBatch) {
		if err != nil {
			return err
		}
		if err := w.WriteWithAppMetadata(rec, fmt.Appendf(nil, `{"batch":%d}`, number)); err != nil {
			return fmt.Errorf("send batch %d: %w", number, err)
		}
		number += int64(t.WorldSize)
	}
	return w.Close() // sends the schema where there was no batch
}

func (s *service) tooLarge(n int64) error {
	return fmt.Errorf("%w: batches of %d bytes, of at most %d: ask for a smaller batch_size", errLimit, n, s.opts.MaxBatchBytes)
}

// bounded refuses to send a batch that is too large by its texts.
type bounded struct {
	out arrowflight.FlightService_DoGetServer
	s   *service
}

func (b *bounded) Send(d *arrowflight.FlightData) error {
	if n := int64(len(d.DataBody)); n > b.s.opts.MaxBatchBytes {
		return b.s.tooLarge(n)
	}
	return b.out.Send(d)
}

// rowBytes is what a row takes at least.
func rowBytes(s *arrow.Schema) (n int64) {
	for _, f := range s.Fields() {
		switch t := f.Type.(type) {
		case *arrow.FixedSizeListType:
			if e, ok := t.Elem().(arrow.FixedWidthDataType); ok {
				n += int64(t.Len()) * int64(e.Bytes())
			}
		case arrow.FixedWidthDataType:
			n += int64(t.Bytes())
		default:
			n += 4 // an offset
		}
	}
	return n
}
