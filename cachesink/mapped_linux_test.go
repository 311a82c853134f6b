package cachesink

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// ownMemory returns the resident bytes that no file backs.
func ownMemory(t *testing.T) (kib int64) {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, after, ok := bytes.Cut(b, []byte("RssAnon:"))
	if !ok {
		t.Skip("the system does not tell")
	}
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestMappedMemory: to gather all rows of a mapped cache takes the memory of
// its batches, not of its embeddings.
func TestMappedMemory(t *testing.T) {
	const objects, dim = 8000, 1500 // 48 MB
	dir := t.TempDir()
	mustRun(t, setup{
		splits: map[string][]encode.Sample{"train": groups("a", objects, objects)}, shard: objects, batch: 100,
		models: map[string]hashModel{"e": {dim: dim, seed: "e"}},
	}, quickDir(dir))
	all := openedIn(t, Dir(dir), &Tables{})
	r, err := all.Select("e")
	if err != nil {
		t.Fatal(err)
	}
	before := ownMemory(t)
	rows := shuffledRows(objects)
	for at := 0; at < objects; at += 100 {
		gathered(t, r, rows[at:at+100])
	}
	if grown := ownMemory(t) - before; grown > 16<<10 {
		t.Errorf("%d KiB more are resident", grown)
	}
}

// TestScarceMemory: files that were read more often than memory can be large
// enough for are read around no more, and still served.
func TestScarceMemory(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, mappedFill(Float32), quickDir(dir))
	r := openedIn(t, Dir(dir), &Tables{})
	want := slices.Clone(gathered(t, r, shuffledRows(1200)))
	r.pages.begun.Add(-scarceReads*r.pages.size - 1)
	for range 2 * readsEvery {
		if !slices.Equal(gathered(t, r, shuffledRows(1200)), want) {
			t.Fatal("the rows are others")
		}
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	random := 0
	for _, part := range bytes.Split(maps, []byte("VmFlags:")) {
		if flags, _, _ := bytes.Cut(part, []byte("\n")); bytes.Contains(flags, []byte(" rr ")) {
			random++
		}
	}
	if random < len(r.watch.files) {
		t.Errorf("%d of %d mappings are for random reads", random, len(r.watch.files))
	}
}
