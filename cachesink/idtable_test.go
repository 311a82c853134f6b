package cachesink

import (
	"fmt"
	"testing"
)

// memory returns the bytes of all slots.
func (t *idTable) memory() (n int64) {
	for i := range t.parts {
		n += int64(len(t.parts[i].mem))
	}
	return n
}

func TestIDTable(t *testing.T) {
	t.Parallel()
	const n = 1_500_000
	var table idTable
	defer table.close()
	worst := 0.0
	for i := range int64(n) {
		id := randomID(uint64(i))
		at, fresh, err := table.insert(&id, i)
		if err != nil || !fresh || at != i {
			t.Fatalf("object %d: %d, %v, %v", i, at, fresh, err)
		}
		if i > 100_000 && i%1000 == 0 {
			worst = max(worst, float64(table.memory())/float64(i))
		}
	}
	for i := int64(0); i < n; i += 7 {
		id := randomID(uint64(i))
		if at, fresh, err := table.insert(&id, 99); err != nil || fresh || at != i {
			t.Fatalf("object %d again: %d, %v, %v", i, at, fresh, err)
		}
	}
	if table.len() != n {
		t.Errorf("%d objects", table.len())
	}
	if worst > 36 {
		t.Errorf("%.1f bytes an object", worst)
	}
}

// TestIDTableReserve: a table with room for its ids does not grow, and takes
// no more memory than one that has grown.
func TestIDTableReserve(t *testing.T) {
	for _, n := range []int64{0, 10, 5000, 300_000} {
		var table idTable
		defer table.close()
		if err := table.reserve(n); err != nil {
			t.Fatal(err)
		}
		before := table.memory()
		if n > 100_000 && before > 36*n {
			t.Errorf("%d bytes for %d objects", before, n)
		}
		for i := range n {
			id := randomID(uint64(i))
			if at, fresh, err := table.insert(&id, i); err != nil || !fresh || at != i {
				t.Fatalf("object %d of %d: %d, %v, %v", i, n, at, fresh, err)
			}
		}
		if grown := table.memory() - before; n > 1000 && grown > before/100 {
			t.Errorf("%d objects: it grew by %d bytes of %d", n, grown, before)
		}
		for i := range n {
			id := randomID(uint64(i))
			if at, ok := table.find(&id); !ok || at != i {
				t.Fatalf("object %d of %d: %d, %v", i, n, at, ok)
			}
		}
	}
}

// TestIDTableCollisions puts ids in one part, that share the bytes which
// choose the slot, or all but the last byte that is compared.
func TestIDTableCollisions(t *testing.T) {
	var table idTable
	defer table.close()
	id := func(i int) (id [32]byte) {
		id[0] = 7
		switch i % 3 {
		case 0:
			id[1], id[2] = byte(i), byte(i>>8) // one slot for all
		case 1:
			id[15], id[14] = 0xff, 0xff // the last slot: goes on at the first
			id[3], id[4] = byte(i), byte(i>>8)
		default:
			id[7], id[6] = byte(i), byte(i>>8)
		}
		return id
	}
	const n = 3000
	for round := range 2 {
		for i := range n {
			k := id(i)
			at, fresh, err := table.insert(&k, int64(i))
			if err != nil || fresh != (round == 0) || at != int64(i) {
				t.Fatalf("round %d, id %d: %d, %v, %v", round, i, at, fresh, err)
			}
		}
	}
}

func TestKeyTable(t *testing.T) {
	var keys keyTable
	defer keys.close()
	const n = 20_000
	for i := range n {
		id := randomID(uint64(i))
		p := keyPlace{split: i % 300, row: int64(i) << 20, side: []string{"", "a", "b"}[i%3]}
		if _, ok, err := keys.check(fmt.Sprint("key ", i), &id, p); err != nil || !ok {
			t.Fatalf("key %d: %v, %v", i, ok, err)
		}
	}
	for i := range n {
		right, wrong := randomID(uint64(i)), randomID(uint64(i+1))
		want := keyPlace{split: i % 300, row: int64(i) << 20, side: []string{"", "a", "b"}[i%3]}
		if _, ok, err := keys.check(fmt.Sprint("key ", i), &right, keyPlace{}); err != nil || !ok {
			t.Fatalf("key %d again: %v, %v", i, ok, err)
		}
		if first, ok, err := keys.check(fmt.Sprint("key ", i), &wrong, keyPlace{}); err != nil || ok || first != want {
			t.Fatalf("key %d with other content: %v, %v, %v", i, first, ok, err)
		}
	}
}
