package flight

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/source"
)

// maxWorld bounds the number of ranks, far from where batch numbers overflow.
const maxWorld = 1 << 20

// Ticket names what a stream gives, as a JSON object; a field that is left out
// is its zero value, and one that is not known is an error. The batches are
// those of [source.Replay] with the same options, so the same ticket gives the
// same batches from every server of the same rows.
type Ticket struct {
	// Split is the name of the split.
	Split string `json:"split"`
	// Epoch chooses the order of a shuffled epoch. Default: 0.
	Epoch int `json:"epoch,omitempty"`
	// Shuffle gives the rows in the order of the seed and the epoch. Default:
	// in the order of the dataset.
	Shuffle bool `json:"shuffle,omitempty"`
	// Seed chooses the orders. Default: 0.
	Seed uint64 `json:"seed,omitempty"`
	// BatchSize is the number of rows of a batch. Default: 256.
	BatchSize int `json:"batch_size,omitempty"`
	// DropLast leaves out a last batch that is smaller. Default: false.
	DropLast bool `json:"drop_last,omitempty"`
	// WorldSize is the number of ranks that share the epoch: rank r gets the
	// batches first_batch+r, first_batch+r+WorldSize, ... Default: 1.
	WorldSize int `json:"world_size,omitempty"`
	// Rank is which of them this stream is for, from 0. Default: 0.
	Rank int `json:"rank,omitempty"`
	// FirstBatch is how many batches of the epoch all ranks together have done.
	// Default: 0.
	FirstBatch int64 `json:"first_batch,omitempty"`
	// Columns are what a batch has, in the order of the split's schema.
	// Default: all.
	Columns []string `json:"columns,omitempty"`
}

// errTicket is in every error about a ticket's values.
var errTicket = errors.New("bad ticket")

// parseTicket reads a ticket and puts defaults in place.
func parseTicket(b []byte) (Ticket, error) {
	t, err := strictjson.Decode[Ticket](b)
	if err != nil {
		return t, fmt.Errorf("%w: %w", errTicket, err)
	}
	if t.BatchSize == 0 {
		t.BatchSize = 256
	}
	if t.WorldSize == 0 {
		t.WorldSize = 1
	}
	for name, v := range map[string]int64{"epoch": int64(t.Epoch), "batch_size": int64(t.BatchSize), "first_batch": t.FirstBatch} {
		if v < 0 {
			return t, fmt.Errorf("%w: %s is %d", errTicket, name, v)
		}
	}
	if t.WorldSize < 1 || t.WorldSize > maxWorld || t.Rank < 0 || t.Rank >= t.WorldSize {
		return t, fmt.Errorf("%w: there is no rank %d of %d", errTicket, t.Rank, t.WorldSize)
	}
	return t, nil
}

func (t Ticket) marshal() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // its fields are numbers and strings
	}
	return b
}

// replay returns the epochs that the ticket is of.
func (t Ticket) replay(of source.Table) (*source.Replayer, error) {
	r, err := source.Replay(of, source.ReplayOptions{
		BatchSize: t.BatchSize, Sequential: !t.Shuffle, Seed: t.Seed, DropLast: t.DropLast, Rank: t.Rank, World: t.WorldSize,
	})
	if err == nil && t.FirstBatch > r.Batches(t.Epoch) {
		err = fmt.Errorf("first_batch is %d of %d batches", t.FirstBatch, r.Batches(t.Epoch))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTicket, err)
	}
	return r, nil
}

// rows is the number of rows that the stream gives, of a table of that many
// rows and batches.
func (t Ticket) rows(total, batches int64) int64 {
	first, world, size := t.FirstBatch+int64(t.Rank), int64(t.WorldSize), int64(t.BatchSize)
	if first >= batches {
		return 0
	}
	mine := (batches-first-1)/world + 1
	n := mine * size
	if last := first + (mine-1)*world; last == batches-1 {
		n -= max(batches*size-total, 0) // of a smaller last batch
	}
	return n
}
