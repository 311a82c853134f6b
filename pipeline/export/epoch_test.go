package export_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/source"
)

// TestEpoch: the batches are those of a replay, and every format has the rows
// in that order.
func TestEpoch(t *testing.T) {
	c := open(t, goldenCaches[1])
	s := newest(t, c, "train")
	all := content(t, c, s)
	var tables cachesink.Tables
	defer tables.Release()
	r, err := c.Read(t.Context(), s, &tables)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for _, e := range []export.Epoch{{}, {Shuffle: true, Seed: math.MaxUint64, Number: 3}, {Shuffle: true, World: 2, Rank: 1}, {FirstBatch: 1, DropLast: true}} {
		replay, err := source.Replay(r, source.ReplayOptions{BatchSize: 2, Sequential: !e.Shuffle, Seed: e.Seed, DropLast: e.DropLast, Rank: e.Rank, World: e.World})
		if err != nil {
			t.Fatal(err)
		}
		var batches [][]int64
		want := map[string][]any{}
		n := int64(0)
		for rec, err := range replay.EpochFrom(t.Context(), e.Number, e.FirstBatch) {
			if err != nil {
				t.Fatal(err)
			}
			var rows []int64
			at := rec.Schema().FieldIndices("row")[0]
			for i := range int(rec.NumRows()) {
				row := value(t, rec.Column(at), i).(int64)
				rows = append(rows, row)
				for name := range all {
					want[name] = append(want[name], all[name][row])
				}
			}
			batches = append(batches, rows)
			n += rec.NumRows()
		}
		opts := export.Options{Splits: []*cachesink.Split{s}, BatchRows: 2, Epoch: &e, Format: export.Arrow}
		var b bytes.Buffer
		if res, err := export.Stream(t.Context(), c, opts, &b); err != nil || res.Rows != n {
			t.Fatalf("%+v: %+v, want %d rows (%v)", e, res, n, err)
		}
		if got := batchRows(t, b.Bytes()); fmt.Sprint(got) != fmt.Sprint(batches) {
			t.Errorf("%+v: the batches have the rows %v, want %v", e, got, batches)
		}
		same(t, "arrow", readArrow(t, b.Bytes(), s), want)
		opts.Format = export.JSONL
		same(t, "jsonl", readJSONL(t, write(t, c, opts), want), want)
		opts.Format = export.Parquet
		same(t, "parquet", readParquet(t, write(t, c, opts), 2), want)
	}
}

func batchRows(t *testing.T, b []byte) (out [][]int64) {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		at := r.Schema().FieldIndices("row")[0]
		var rows []int64
		for i := range int(r.Record().NumRows()) {
			rows = append(rows, value(t, r.Record().Column(at), i).(int64))
		}
		out = append(out, slices.Clip(rows))
	}
	return out
}

// TestEpochRefusals are epochs that cannot be.
func TestEpochRefusals(t *testing.T) {
	c := open(t, goldenCaches[0])
	train := []*cachesink.Split{newest(t, c, "train")}
	for _, opts := range []export.Options{
		{Format: export.NPY, Splits: train, Encoder: "plain", Epoch: &export.Epoch{}},
		{Format: export.HF, Splits: train, Epoch: &export.Epoch{}},
		{Format: export.Arrow, Encoder: "plain", Epoch: &export.Epoch{}},
		{Format: export.Arrow, Splits: train, Epoch: &export.Epoch{Number: -1}},
		{Format: export.Arrow, Splits: train, Epoch: &export.Epoch{World: 2, Rank: 2}},
		{Format: export.Arrow, Splits: train, Epoch: &export.Epoch{World: 2, Rank: 1}},
		{Format: export.Arrow, Splits: train, Epoch: &export.Epoch{FirstBatch: -1}},
		{Format: export.Arrow, Splits: train, Epoch: &export.Epoch{FirstBatch: math.MaxInt64}},
	} {
		if _, err := export.Stream(t.Context(), c, opts, &bytes.Buffer{}); !errors.Is(err, export.ErrOptions) {
			t.Errorf("%+v, %+v: %v", opts, opts.Epoch, err)
		}
	}
}
