package serve_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	arrowflight "github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/serve"
	"github.com/permafrost-ml/permafrost/sink/flight"
	"github.com/permafrost-ml/permafrost/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// goldenCaches are committed caches with groups, pairs, nulls, an encoder that
// is not cached, and in version 2 with float16, int8 and compressions.
var goldenCaches = []string{"../../cachesink/testdata/golden/v1", "../../cachesink/testdata/golden/v2"}

func open(t *testing.T, dir string) *cachesink.Cache {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	c, err := cachesink.Open(t.Context(), cachesink.Dir(dir), mem)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFlight: what arrives has the bits of the cache, in every column that
// means something outside of it.
func TestFlight(t *testing.T) {
	for _, dir := range goldenCaches {
		c := open(t, dir)
		for i := range c.Manifest().Splits {
			s := &c.Manifest().Splits[i]
			ctx, cancel := context.WithCancel(t.Context())
			l := listen(t)
			ended := make(chan error, 1)
			splits, err := serve.Open(ctx, c, []*cachesink.Split{s})
			if err != nil {
				t.Fatal(err)
			}
			go func() { ended <- splits.Flight(ctx, flight.Options{}, l) }()
			client, err := arrowflight.NewClientWithMiddleware(l.Addr().String(), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup // several streams at once
			for _, shuffle := range []bool{false, true, false, true} {
				wg.Go(func() {
					got, err := received(t.Context(), client, fmt.Sprintf(`{"split":%q,"shuffle":%v,"seed":5,"epoch":2,"batch_size":3}`, s.Name, shuffle))
					want, wantErr := replayed(t.Context(), c, s, source.ReplayOptions{Sequential: !shuffle, Seed: 5, BatchSize: 3})
					if err := errors.Join(err, wantErr); err != nil || !slices.Equal(got, want) {
						t.Errorf("%s, split %q, shuffle %v: the batches are\n%q, want\n%q (%v)", dir, s.Name, shuffle, got, want, err)
					}
				})
			}
			wg.Wait()
			client.Close()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", dir, err)
			}
			splits.Release()
		}
	}
}

func received(ctx context.Context, c arrowflight.Client, ticket string) (out []string, err error) {
	s, err := c.DoGet(ctx, &arrowflight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return nil, err
	}
	r, err := arrowflight.NewRecordReader(s)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	for r.Next() {
		out = append(out, text(r.Record(), r.Schema().Fields()))
	}
	return out, r.Err()
}

func replayed(ctx context.Context, c *cachesink.Cache, s *cachesink.Split, o source.ReplayOptions) (out []string, err error) {
	var tables cachesink.Tables
	defer tables.Release()
	r, err := c.Read(ctx, s, &tables)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	hidden := map[string]bool{}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			hidden[cachesink.EncoderColumn(e.Name, side, cachesink.RolePos)] = true
			hidden[cachesink.EncoderColumn(e.Name, side, cachesink.RoleInput)] = true
		}
	}
	shown := slices.DeleteFunc(slices.Clone(r.Schema().Fields()), func(f arrow.Field) bool { return hidden[f.Name] })
	replay, err := source.Replay(r, o)
	if err != nil {
		return nil, err
	}
	for rec, err := range replay.Epoch(ctx, 2) {
		if err != nil {
			return nil, err
		}
		out = append(out, text(rec, shown))
	}
	return out, nil
}

// text writes the given columns of a batch, embeddings with all their bits.
func text(rec arrow.Record, fields []arrow.Field) (s string) {
	for _, f := range fields {
		a := rec.Column(rec.Schema().FieldIndices(f.Name)[0])
		s += f.Name + " " + f.Type.String() + " "
		if vecs, dim, err := cachesink.Vectors(a); err == nil {
			s += fmt.Sprintf("%d %x\n", dim, arrow.Float32Traits.CastToBytes(vecs))
			continue
		}
		s += a.String() + "\n"
	}
	return s
}

// TestOpenRefuses what is damaged, and frees what it has loaded.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(goldenCaches[0])); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	s := &c.Manifest().Splits[0]
	if _, err := serve.Open(t.Context(), c, []*cachesink.Split{s, s}); err == nil {
		t.Error("two splits of one name are served")
	}
	splits, err := serve.Open(t.Context(), c, []*cachesink.Split{s})
	if err != nil {
		t.Fatal(err)
	}
	defer splits.Release()
	l := listen(t)
	if err := splits.Flight(t.Context(), flight.Options{MaxStreams: -1}, l); err == nil {
		t.Error("a negative limit is served")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
	damage(t, filepath.Join(dir, s.Files[0].Name))
	if _, err := serve.Open(t.Context(), c, []*cachesink.Split{s}); !errors.Is(err, cachesink.ErrCorrupt) {
		t.Errorf("a damaged split: %v", err)
	}
}

func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}
