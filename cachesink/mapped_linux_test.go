package cachesink

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
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
