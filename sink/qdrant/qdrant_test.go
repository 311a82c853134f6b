package qdrant_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/sink/qdrant"
	"github.com/permafrost-ml/permafrost/sink/qdrant/qdranttest"
	"github.com/permafrost-ml/permafrost/stage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func checked(t *testing.T) memory.Allocator {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

const dim = 3

func idOf(row int) []byte {
	id := make([]byte, 32)
	for i := range id {
		id[i] = byte(row*31 + i*7)
	}
	return id
}

func vectorOf(row int) []float32 {
	return []float32{float32(row) / 3, -1e-8 * float32(row+1), math.MaxFloat32 / float32(row+1)}
}

// batch makes rows [from, from+n).
func batch(mem memory.Allocator, from, n int) arrow.Record {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{
		{Name: "row", Type: arrow.PrimitiveTypes.Int64},
		{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 32}},
		{Name: "label", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "blob", Type: arrow.BinaryTypes.Binary},
		{Name: "embedding", Type: arrow.FixedSizeListOf(dim, arrow.PrimitiveTypes.Float32)},
	}, nil))
	defer b.Release()
	for row := from; row < from+n; row++ {
		b.Field(0).(*array.Int64Builder).Append(int64(row))
		b.Field(1).(*array.FixedSizeBinaryBuilder).Append(idOf(row))
		if row%4 == 0 {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("label \"%d\" é", row))
		}
		b.Field(3).(*array.BinaryBuilder).Append([]byte{0, byte(row)})
		list := b.Field(4).(*array.FixedSizeListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Float32Builder).AppendValues(vectorOf(row), nil)
	}
	return b.NewRecord()
}

// wanted are the points of n rows.
func wanted(n int) map[string]qdranttest.Point {
	out := map[string]qdranttest.Point{}
	for row := range n {
		id := idOf(row)
		payload := map[string]any{"row": float64(row), "id": hex.EncodeToString(id), "blob": fmt.Sprintf("00%02x", row)}
		if row%4 != 0 {
			payload["label"] = fmt.Sprintf("label \"%d\" é", row)
		}
		id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
		h := hex.EncodeToString(id)
		out[h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:32]] = qdranttest.Point{Vector: vectorOf(row), Payload: payload}
	}
	return out
}

// options are those of a client in a hurry.
func options(s *qdranttest.Server) qdrant.Options {
	return qdrant.Options{URL: s.URL, Collection: "my texts", Dim: dim, Wait: time.Millisecond, Timeout: 300 * time.Millisecond, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// upload sends rows [0, n) in batches of size.
func upload(t *testing.T, ctx context.Context, o qdrant.Options, n, size int) (stored int64, err error) {
	t.Helper()
	mem := checked(t)
	c, err := qdrant.Open(ctx, o)
	if err != nil {
		return 0, err
	}
	g, _ := stage.NewGroup(ctx)
	recs := stage.From(g, "make", func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			for from := 0; from < n; from += size {
				whole := batch(mem, from-1, min(size, n-from)+1) // a slice, as gathered batches are
				part := whole.NewSlice(1, whole.NumRows())
				whole.Release()
				if !yield(part, nil) {
					return
				}
			}
		}
	})
	qdrant.Upload(g, recs, c, func(_ context.Context, rows int64) error {
		stored += rows
		return nil
	})
	return stored, g.Wait()
}

// TestUpload through every fault, at every request.
func TestUpload(t *testing.T) {
	faults := []qdranttest.Fault{
		qdranttest.None, qdranttest.Unavailable, qdranttest.Reset, qdranttest.LostReset, qdranttest.LostTimeout, qdranttest.Garbage, qdranttest.NotYet,
	}
	for _, fault := range faults {
		// The first request looks for the collection, the second makes it, and
		// three upsert.
		for at := range 5 {
			if fault == qdranttest.NotYet && at < 2 {
				continue // not an answer to those
			}
			t.Run(fmt.Sprint(fault, "/", at), func(t *testing.T) {
				t.Parallel()
				s := qdranttest.New(t)
				s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
					if n == at || n == at+1 && fault != qdranttest.LostTimeout {
						return fault
					}
					return qdranttest.None
				})
				stored, err := upload(t, t.Context(), options(s), 25, 10)
				if err != nil || stored != 25 {
					t.Fatalf("%d rows are stored: %v", stored, err)
				}
				if got := s.Points(); !reflect.DeepEqual(got, wanted(25)) {
					t.Errorf("the points are %v, want %v", got, wanted(25))
				}
				record(t, s)
			})
		}
	}
}

// record keeps requests where the environment asks for them, to be held
// against the schemas of Qdrant's own client.
func record(t *testing.T, s *qdranttest.Server) {
	t.Helper()
	dir := os.Getenv("PERMAFROST_QDRANT_REQUESTS")
	if dir == "" {
		return
	}
	b, err := json.Marshal(s.Requests())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBusy: a server that asks for time gets it.
func TestBusy(t *testing.T) {
	s := qdranttest.New(t)
	var asked, came time.Time
	s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
		if n == 3 {
			asked = time.Now()
			return qdranttest.Busy
		}
		if n == 4 {
			came = time.Now()
		}
		return qdranttest.None
	})
	if _, err := upload(t, t.Context(), options(s), 25, 10); err != nil {
		t.Fatal(err)
	}
	if came.Sub(asked) < time.Second {
		t.Errorf("the client came back after %v", came.Sub(asked))
	}
}

// TestGivesUp: what does not pass ends the upload, at once or after the
// attempts that were allowed, and what was stored before is known.
func TestGivesUp(t *testing.T) {
	s := qdranttest.New(t)
	s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
		if n >= 3 {
			return qdranttest.Unavailable
		}
		return qdranttest.None
	})
	o := options(s)
	o.Attempts = 4
	stored, err := upload(t, t.Context(), o, 25, 10)
	var no *qdrant.Error
	if !errors.As(err, &no) || no.Status != 503 || !strings.Contains(err.Error(), "after 4 attempts") || stored != 10 || len(s.Requests()) != 3+4 {
		t.Errorf("%d rows, %d requests, %v", stored, len(s.Requests()), err)
	}

	s = qdranttest.New(t)
	s.Key = "secret"
	if _, err = upload(t, t.Context(), options(s), 25, 10); !errors.As(err, &no) || no.Status != 401 || len(s.Requests()) != 1 {
		t.Errorf("without its key: %d requests, %v", len(s.Requests()), err)
	}
	o = options(s)
	o.APIKey = "secret"
	if _, err = upload(t, t.Context(), o, 25, 10); err != nil {
		t.Errorf("with its key: %v", err)
	}

	o.URL = "http://127.0.0.1:1"
	o.Attempts = 2
	if _, err = upload(t, t.Context(), o, 25, 10); err == nil || !strings.Contains(err.Error(), "after 2 attempts") {
		t.Errorf("where nobody listens: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	s := qdranttest.New(t)
	errStop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
		if n == 3 {
			cancel(errStop)
		}
		return map[bool]qdranttest.Fault{true: qdranttest.Unavailable}[n >= 3]
	})
	o := options(s)
	o.Wait = time.Hour
	if stored, err := upload(t, ctx, o, 25, 10); !errors.Is(err, errStop) || stored != 10 {
		t.Errorf("%d rows, %v", stored, err)
	}
}

// TestCollection: one that is there is used if it fits.
func TestCollection(t *testing.T) {
	s := qdranttest.New(t)
	o := options(s)
	c, err := qdrant.Open(t.Context(), o)
	if err != nil || !c.Created() {
		t.Fatal(err)
	}
	if c, err = qdrant.Open(t.Context(), o); err != nil || c.Created() {
		t.Fatal(err)
	}
	mem := checked(t)
	rec := batch(mem, 0, 5)
	defer rec.Release()
	if has, err := c.Has(t.Context(), rec); err != nil || has {
		t.Errorf("an empty collection has the points: %v", err)
	}
	part := rec.NewSlice(0, 4)
	defer part.Release()
	if err := c.Upsert(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	if has, err := c.Has(t.Context(), rec); err != nil || has {
		t.Errorf("4 points of 5 are all: %v", err)
	}
	if has, err := c.Has(t.Context(), part); err != nil || !has {
		t.Errorf("the points are not there: %v", err)
	}
	record(t, s)
	for _, other := range []qdrant.Options{{Dim: 4}, {Dim: dim, Distance: "Dot"}} {
		o := options(s)
		o.Dim, o.Distance = other.Dim, other.Distance
		if _, err := qdrant.Open(t.Context(), o); !errors.Is(err, qdrant.ErrCollection) {
			t.Errorf("%+v: %v", other, err)
		}
	}
}

// TestOptions that are refused before anything is sent.
func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*qdrant.Options){
		"scheme":     func(o *qdrant.Options) { o.URL = "ftp://host" },
		"host":       func(o *qdrant.Options) { o.URL = "http://" },
		"query":      func(o *qdrant.Options) { o.URL += "?a=b" },
		"collection": func(o *qdrant.Options) { o.Collection = "a/b" },
		"dots":       func(o *qdrant.Options) { o.Collection = ".." },
		"dim":        func(o *qdrant.Options) { o.Dim = 0 },
		"distance":   func(o *qdrant.Options) { o.Distance = "cosine" },
		"attempts":   func(o *qdrant.Options) { o.Attempts = -1 },
	} {
		s := qdranttest.New(t)
		o := options(s)
		change(&o)
		if _, err := qdrant.Open(t.Context(), o); !errors.Is(err, qdrant.ErrOptions) || len(s.Requests()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBadBatches are refused, and nothing of them is sent.
func TestBadBatches(t *testing.T) {
	s := qdranttest.New(t)
	c, err := qdrant.Open(t.Context(), options(s))
	if err != nil {
		t.Fatal(err)
	}
	mem := checked(t)
	make := func(id arrow.DataType, vector arrow.DataType, fill func(id, vector array.Builder)) arrow.Record {
		b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "id", Type: id, Nullable: true}, {Name: "embedding", Type: vector, Nullable: true}}, nil))
		defer b.Release()
		fill(b.Field(0), b.Field(1))
		return b.NewRecord()
	}
	vector := func(values ...float32) func(array.Builder) {
		return func(b array.Builder) {
			b.(*array.FixedSizeListBuilder).Append(true)
			b.(*array.FixedSizeListBuilder).ValueBuilder().(*array.Float32Builder).AppendValues(values, nil)
		}
	}
	list := arrow.FixedSizeListOf(dim, arrow.PrimitiveTypes.Float32)
	text := func(s string) func(array.Builder) {
		return func(b array.Builder) { b.(*array.StringBuilder).Append(s) }
	}
	null := func(b array.Builder) { b.AppendNull() }
	long := strings.Repeat("0f", 32)
	for want, rec := range map[string]arrow.Record{
		"NaN":           make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { text(long)(i); vector(0, float32(math.NaN()), 0)(v) }),
		"+Inf":          make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { text(long)(i); vector(0, 0, float32(math.Inf(1)))(v) }),
		"has nulls":     make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { null(i); vector(0, 0, 0)(v) }),
		"with 1 nulls":  make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { text(long)(i); null(v) }),
		"not of 3":      make(arrow.BinaryTypes.String, arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), func(i, v array.Builder) { text(long)(i); vector(0, 0)(v) }),
		"invalid byte":  make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { text("xyz!")(i); vector(0, 0, 0)(v) }),
		"shorter than":  make(arrow.BinaryTypes.String, list, func(i, v array.Builder) { text("0f")(i); vector(0, 0, 0)(v) }),
		`"id" is int64`: make(arrow.PrimitiveTypes.Int64, list, func(i, v array.Builder) { i.(*array.Int64Builder).Append(1); vector(0, 0, 0)(v) }),
	} {
		before := len(s.Requests())
		if err := c.Upsert(t.Context(), rec); err == nil || !strings.Contains(err.Error(), want) || len(s.Requests()) != before {
			t.Errorf("want %s: %v", want, err)
		}
		rec.Release()
	}
}
