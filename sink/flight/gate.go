package flight

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// gate stands before every call: it asks for the token, keeps a panic from
// ending the process and gives errors their codes.
type gate struct {
	token [sha256.Size]byte
	open  bool
	code  func(error) codes.Code
	log   *slog.Logger
}

func newGate(o Options, code func(error) codes.Code) *gate {
	return &gate{sha256.Sum256([]byte(o.Token)), o.Token == "", code, o.Logger}
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, do grpc.UnaryHandler) (out any, err error) {
	err = g.call(ctx, info.FullMethod, func() error {
		out, err = do(ctx, req)
		return err
	})
	return out, err
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, do grpc.StreamHandler) error {
	return g.call(ss.Context(), info.FullMethod, func() error { return do(srv, ss) })
}

func (g *gate) call(ctx context.Context, method string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			g.log.Error("a call panicked", "method", method, "panic", v, "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	if !g.knows(ctx) {
		return status.Error(codes.Unauthenticated, "the header authorization: Bearer TOKEN is missing or wrong")
	}
	if err = do(); err == nil {
		return nil
	}
	code := g.code(err)
	if code != codes.Canceled {
		g.log.Warn("a call failed", "method", method, "code", code.String(), "error", err)
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(code, err.Error())
}

// knows compares digests, so that the time tells neither the token nor its
// length.
func (g *gate) knows(ctx context.Context) bool {
	if g.open {
		return true
	}
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	got := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(got[:], g.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// limitedListener closes connections beyond a number.
type limitedListener struct {
	net.Listener
	max int
	log *slog.Logger

	mu   sync.Mutex
	open int
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.add() {
			return &countedConn{Conn: c, left: sync.OnceFunc(l.remove)}, nil
		}
		l.log.Warn("a connection was closed", "limit", l.max, "remote", fmt.Sprint(c.RemoteAddr()))
		c.Close()
	}
}

func (l *limitedListener) add() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max {
		return false
	}
	l.open++
	return true
}

func (l *limitedListener) remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
}

type countedConn struct {
	net.Conn
	left func()
}

func (c *countedConn) Close() error {
	defer c.left()
	return c.Conn.Close()
}
