package cachesink_test

import (
	"context"
	"fmt"
	"log"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// lengths is an encoder for examples: the number of bytes of a text, and 1.
type lengths struct{}

func (lengths) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "lengths", Dim: 2, Fields: []encode.Field{{Name: "unit", Value: "byte"}}, BatchInvariant: true}, nil
}
func (lengths) Open(context.Context, int) (encode.Encoder, error) { return lengths{}, nil }
func (lengths) Dim() int                                          { return 2 }
func (lengths) Close() error                                      { return nil }

func (lengths) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	for i, in := range batch {
		dst[2*i], dst[2*i+1] = float32(len(in.Text())), 1
	}
	return nil
}

// A fill by hand: rows become samples, samples are indexed, what is not
// stored is encoded and written, and a commit makes it count. Then the split
// is replayed.
func Example() {
	ctx := context.Background()
	if err := fillAndReplay(ctx, cachesink.Memory()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// stored 2 objects of 3 rows
	// row 2: [3 1]
	// row 0: [3 1]
	// row 1: [5 1]
}

// fill stores texts, each its own key, as the split "train".
func fill(ctx context.Context, st cachesink.Storage, texts ...string) (*cachesink.Cache, error) {
	spec, err := lengths{}.Spec(ctx)
	if err != nil {
		return nil, err
	}
	fields, err := spec.Declared(cachesink.DefaultBatchSize)
	if err != nil {
		return nil, err
	}
	key, err := encode.ParseKey("field:text")
	if err != nil {
		return nil, err
	}
	c, err := cachesink.Open(ctx, st, nil)
	if err != nil {
		return nil, err
	}
	f, err := c.Fill(ctx, cachesink.FillOptions{Encoders: []cachesink.Use{{
		Name: "e", Fingerprint: encode.Fingerprint(fields), Dim: spec.Dim, Cached: true, FreeKeys: key.Free(),
	}}})
	if err != nil {
		return nil, err
	}
	defer f.Abort()

	g, _ := stage.NewGroup(ctx)
	src := source.Slice(texts)
	rows := stage.From(g, "read", src.Rows)
	samples := stage.OrderedMap(g, rows, "sample", 1, func(_ context.Context, r source.Row[string]) (encode.Sample, error) {
		return encode.GroupSample(encode.Text(r.Value), "label"), nil
	})
	batches := encode.Samples(g, samples, encode.SampleOptions{Split: "train", Uses: []encode.Use{{Name: "e", Key: key}}})
	objects := f.Index(g, batches)
	f.Write(g, "e", encode.Stage(g, objects["e"], "e", lengths{}, encode.StageOptions{Workers: 2, Memo: f.Memo("e")}))
	if err := g.Wait(); err != nil {
		return nil, err
	}
	_, err = f.Commit(ctx)
	return c, err
}

func fillAndReplay(ctx context.Context, st cachesink.Storage) error {
	c, err := fill(ctx, st, "one", "three", "one")
	if err != nil {
		return err
	}
	m := c.Manifest()
	fmt.Printf("stored %d objects of %d rows\n", m.Encoders[0].Rows(), m.Splits[0].Rows)

	var tables cachesink.Tables
	defer tables.Release()
	r, err := c.Read(ctx, &m.Splits[0], &tables)
	if err != nil {
		return err
	}
	defer r.Release()
	rec, err := r.Gather(ctx, []int64{2, 0, 1})
	if err != nil {
		return err
	}
	defer rec.Release()
	return printRows(rec, []int64{2, 0, 1})
}

func printRows(rec arrow.Record, rows []int64) error {
	vecs, dim, err := cachesink.Vectors(rec.Column(rec.Schema().FieldIndices("e")[0]))
	if err != nil {
		return err
	}
	for i, row := range rows {
		fmt.Printf("row %d: %v\n", row, vecs[i*dim:(i+1)*dim])
	}
	return nil
}
