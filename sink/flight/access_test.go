package flight_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/permafrost-ml/permafrost/sink/flight"
)

func TestToken(t *testing.T) {
	mem := checked(t)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"train": newTable(mem, 300, 3)}, Token: "secret token"})
	for _, tc := range []struct {
		header string
		code   codes.Code
	}{
		{"Bearer secret token", codes.OK},
		{"bearer secret token", codes.OK},
		{"", codes.Unauthenticated},
		{"Bearer", codes.Unauthenticated},
		{"Bearer secret tokem", codes.Unauthenticated},
		{"Bearer secret token ", codes.Unauthenticated},
		{"Basic secret token", codes.Unauthenticated},
		{"secret token", codes.Unauthenticated},
	} {
		c := dial(t, srv.addr, tc.header, nil)
		if _, _, err := fetch(t, c, `{"split":"train"}`); status.Code(err) != tc.code {
			t.Errorf("%q: %v, want %v", tc.header, err, tc.code)
		}
		if _, err := c.GetFlightInfo(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"train"}}); status.Code(err) != tc.code {
			t.Errorf("%q: %v, want %v", tc.header, err, tc.code)
		}
	}
}

// TestAddress: what is not loopback is not served to everyone.
func TestAddress(t *testing.T) {
	for _, o := range []flight.Options{{}, {Token: "secret"}, {Anyone: true}} {
		srv, err := flight.New(o)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = srv.Serve(ctx, l)
		if open := o.Token == "" && !o.Anyone; errors.Is(err, flight.ErrOpen) != open || !open && err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%+v: the listener is open: %v", o, err)
		}
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)

	mem := checked(t)
	srv := start(t, flight.Options{
		Splits: map[string]flight.Table{"train": newTable(mem, 300, 3)}, Token: "secret",
		TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
	})
	_, got, err := fetch(t, dial(t, srv.addr, "Bearer secret", &tls.Config{RootCAs: roots}), `{"split":"train"}`)
	if err != nil || len(got) != 2 {
		t.Errorf("%d batches, %v", len(got), err)
	}
	for name, tc := range map[string]*tls.Config{"in the clear": nil, "without its root": {RootCAs: x509.NewCertPool()}} {
		if _, _, err := fetch(t, dial(t, srv.addr, "Bearer secret", tc), `{"split":"train"}`); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	mem := checked(t)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"train": newTable(mem, 300, 3)}, MaxConnections: 1})
	first := dial(t, srv.addr, "", nil)
	if _, _, err := fetch(t, first, `{"split":"train"}`); err != nil {
		t.Fatal(err)
	}
	second := dial(t, srv.addr, "", nil)
	if _, _, err := fetch(t, second, `{"split":"train"}`); status.Code(err) != codes.Unavailable {
		t.Errorf("a second connection: %v", err)
	}
	first.Close()
	waitFor(t, "a place to become free", func() bool {
		_, _, err := fetch(t, second, `{"split":"train"}`)
		return err == nil
	})
}

func TestMaxStreams(t *testing.T) {
	mem := checked(t)
	big := newTable(mem, 1<<20, 64)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"train": newTable(mem, 300, 3), "big": big}, MaxStreams: 1, Allocator: mem})
	c := dial(t, srv.addr, "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := get(ctx, c, `{"split":"big"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t, dial(t, srv.addr, "", nil), `{"split":"train"}`); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream: %v", err)
	}
	if _, err := c.GetFlightInfo(t.Context(), &arrowflight.FlightDescriptor{Type: arrowflight.DescriptorPATH, Path: []string{"train"}}); err != nil {
		t.Errorf("a question beside a stream: %v", err)
	}
	cancel()
	waitFor(t, "the stream to end", func() bool {
		_, _, err := fetch(t, c, `{"split":"train"}`)
		return err == nil
	})
}

// waitFor tries until something holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestSlowClient: a client that takes nothing holds back its stream, and one
// that goes away frees it.
func TestSlowClient(t *testing.T) {
	mem := checked(t)
	big := newTable(mem, 1<<20, 64)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"big": big}, Allocator: mem})
	var conns []arrowflight.Client
	for range 3 {
		c := dial(t, srv.addr, "", nil)
		s, err := get(t.Context(), c, `{"split":"big","batch_size":4096}`)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		conns = append(conns, c)
	}
	waitFor(t, "the streams to stand still", func() bool {
		was := big.gathers.Load()
		time.Sleep(100 * time.Millisecond)
		return big.gathers.Load() == was
	})
	if n := big.gathers.Load(); n > 3*16 {
		t.Errorf("%d batches were gathered for clients that took 2 each", n)
	}
	for _, c := range conns {
		c.Close()
	}
	if err := srv.stop(); err != nil { // returns when no stream is left
		t.Error(err)
	}
}

// TestStop: a client that reads learns that the server stops, at the end of a
// batch; one that does not is cut off.
func TestStop(t *testing.T) {
	mem := checked(t)
	big := newTable(mem, 1<<30, 64)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"big": big}, Allocator: mem, StopTime: 200 * time.Millisecond})
	idle, err := get(t.Context(), dial(t, srv.addr, "", nil), `{"split":"big"}`)
	if err != nil {
		t.Fatal(err)
	}
	s, err := get(t.Context(), dial(t, srv.addr, "", nil), `{"split":"big"}`)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			if n == 10 {
				close(taken)
			}
			if _, err := s.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	<-taken
	if err := srv.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of a client that reads ended with %v", err)
	}
	for err == nil {
		_, err = idle.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of a client that does not ended with %v", err)
	}
}

// TestCancel in the middle of a stream, many times.
func TestCancel(t *testing.T) {
	mem := checked(t)
	srv := start(t, flight.Options{Splits: map[string]flight.Table{"big": newTable(mem, 1<<20, 64)}, Allocator: mem, MaxStreams: 64})
	c := dial(t, srv.addr, "", nil)
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := get(ctx, c, `{"split":"big","shuffle":true}`)
		for range slices.Repeat([]int{0}, i%7) {
			if _, err = s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		for err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
	}
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}
