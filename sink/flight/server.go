package flight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/permafrost-ml/permafrost/source"
)

const (
	// maxRequest bounds what a client sends in one message and in headers.
	maxRequest = 64 << 10
	// handshakeTime is how long a new connection may take to say something.
	handshakeTime = 10 * time.Second
	// idleTime is how long a connection without a stream keeps its place.
	idleTime = 5 * time.Minute
)

// ErrOpen is returned instead of serving everyone on a network.
var ErrOpen = errors.New("the address is not loopback, and there is no token")

// Table is a split as it is served. It is used by several goroutines at once,
// until Serve has returned.
type Table interface {
	source.Table
	// Schema returns the schema of gathered batches.
	Schema() *arrow.Schema
	// Select returns the same rows with the named columns only, in the order
	// of Schema. It shares the memory of the table.
	Select(columns ...string) (Table, error)
}

// Options say what is served, and to whom.
type Options struct {
	// Splits are the tables by name.
	Splits map[string]Table
	// Token is what clients send as the header "authorization: Bearer TOKEN".
	// Default: none is asked for.
	Token string
	// Anyone allows an address that is not loopback without a token. Default:
	// false.
	Anyone bool
	// TLS has the server's certificate. Default: connections are in the clear.
	TLS *tls.Config
	// MaxConnections is the number of connections at once; more are closed.
	// Default: 64.
	MaxConnections int
	// MaxStreams is the number of DoGet streams at once, of all connections;
	// more are refused. Default: 16.
	MaxStreams int
	// MaxBatchBytes is the size of a batch beyond which a stream is refused.
	// Default: 64 MiB.
	MaxBatchBytes int64
	// StopTime is how long clients have to take what is on its way to them
	// when the server stops. Default: 5 s.
	StopTime time.Duration
	// Code says what an error of a table is to clients. Default: INTERNAL.
	Code func(error) codes.Code
	// Logger gets a line for each stream that failed. Default: none.
	Logger *slog.Logger
	// Allocator is what messages are made of. Default: memory.DefaultAllocator.
	Allocator memory.Allocator
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxConnections < 0 || o.MaxStreams < 0 || o.MaxBatchBytes < 0 || o.StopTime < 0 {
		return o, fmt.Errorf("serve: limits of %d connections, %d streams, %d bytes, %v", o.MaxConnections, o.MaxStreams, o.MaxBatchBytes, o.StopTime)
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 64
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 16
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = 64 << 20
	}
	if o.StopTime == 0 {
		o.StopTime = 5 * time.Second
	}
	if o.Code == nil {
		o.Code = func(error) codes.Code { return codes.Internal }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	return o, nil
}

// Allowed returns ErrOpen for an address of a network that would be served to
// everyone.
func (o Options) Allowed(addr net.Addr) error {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && o.Token == "" && !o.Anyone {
		return fmt.Errorf("serve on %v: %w", addr, ErrOpen)
	}
	return nil
}

// Server is a Flight server. It is started once.
type Server struct {
	opts Options
	svc  *service
	grpc *grpc.Server
}

// New returns a server. It starts nothing.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, svc: newService(o)}
	gate := newGate(o, s.svc.code)
	opts := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(gate.unary), grpc.ChainStreamInterceptor(gate.stream),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxHeaderListSize(maxRequest),
		grpc.MaxConcurrentStreams(uint32(min(o.MaxStreams, 1<<20)) + 16), // some for questions beside DoGet
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true), // the tables are theirs until then
	}
	if o.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.grpc = grpc.NewServer(opts...)
	arrowflight.RegisterFlightServiceServer(s.grpc, s.svc)
	return s, nil
}

// Serve accepts connections of l, which it closes, until ctx ends. Streams that
// are under way then end with UNAVAILABLE after their batch; connections of
// clients that do not take it are cut after StopTime. It returns nil when all
// have ended. See [Options.Allowed] for addresses that are refused.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := s.opts.Allowed(l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.grpc.Serve(&limitedListener{Listener: l, max: s.opts.MaxConnections, log: s.opts.Logger})
	}()
	select {
	case err := <-ended:
		s.svc.stop(errStopping)
		s.grpc.Stop()
		return fmt.Errorf("serve on %v: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.svc.stop(errStopping)
	cut := time.AfterFunc(s.opts.StopTime, s.grpc.Stop)
	s.grpc.GracefulStop()
	if !cut.Stop() {
		s.grpc.Stop() // the one of the timer may still wait for handlers
	}
	<-ended
	return nil
}
