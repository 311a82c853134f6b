package flight

import (
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// counted is a table of a number of rows, of which none is asked for.
type counted struct {
	source.Table
	rows int64
}

func (c counted) Rows() int64 { return c.rows }

// TestTicketRows counts the rows of every small ticket batch by batch.
func TestTicketRows(t *testing.T) {
	for total := range int64(8) {
		for size := 1; size < 5; size++ {
			for _, drop := range []bool{false, true} {
				for world := 1; world < 4; world++ {
					for rank := range world {
						tk := Ticket{BatchSize: size, WorldSize: world, Rank: rank, DropLast: drop}
						r, err := tk.replay(counted{rows: total})
						if err != nil {
							t.Fatal(err)
						}
						for tk.FirstBatch = range r.Batches(0) + 1 {
							want := int64(0)
							for b := tk.FirstBatch + int64(rank); b < r.Batches(0); b += int64(world) {
								want += min(int64(size), total-b*int64(size))
							}
							if got := tk.rows(total, r.Batches(0)); got != want {
								t.Errorf("%+v of %d rows: %d, want %d", tk, total, got, want)
							}
						}
						tk.FirstBatch = r.Batches(0) + 1
						if _, err := tk.replay(counted{rows: total}); err == nil {
							t.Errorf("%+v of %d batches is accepted", tk, r.Batches(0))
						}
					}
				}
			}
		}
	}
}

// FuzzTicket: whatever a client sends, the ticket is refused or stands for as
// many rows as there are at most, and is the same ticket when it comes back.
func FuzzTicket(f *testing.F) {
	f.Add([]byte(`{"split":"train","epoch":3,"shuffle":true,"seed":42,"batch_size":256,"world_size":4,"rank":1,"first_batch":2,"columns":["label"]}`), int64(1000))
	f.Add([]byte(`{"batch_size":9223372036854775807,"first_batch":9223372036854775807,"world_size":1048576,"rank":1048575}`), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, total int64) {
		tk, err := parseTicket(b)
		if err != nil || total < 0 || total > 1<<40 {
			return
		}
		again, err := parseTicket(tk.marshal())
		if err != nil || string(again.marshal()) != string(tk.marshal()) {
			t.Fatalf("%s comes back as %s (%v)", tk.marshal(), again.marshal(), err)
		}
		r, err := tk.replay(counted{rows: total})
		if err != nil {
			return
		}
		if n := tk.rows(total, r.Batches(0)); n < 0 || n > total {
			t.Fatalf("%s gives %d rows of %d", tk.marshal(), n, total)
		}
	})
}
