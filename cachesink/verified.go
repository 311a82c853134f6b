package cachesink

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// clockGrain is the coarsest step of a filesystem's clock: a file that was
// changed so shortly before it was mapped may change again and keep its times.
const clockGrain = 2 * time.Second

// noteFolder is where it is kept which blocks of a file held; empty for
// nowhere. A note is a hint: whatever is odd about it, the file is checked.
type noteFolder string

// userNotes is the folder in the user's cache.
func userNotes() noteFolder {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return noteFolder(filepath.Join(dir, "permafrost", "verified"))
}

// verifiedNote keeps which blocks of one file held, from process to process.
type verifiedNote struct {
	path   string // "" for nowhere
	state  store.FileState
	digest string // of the checksums
	mu     *sync.Mutex
	kept   int64 // blocks left, of what was written last
}

// verified is what a note's file holds.
type verified struct {
	Version int             `json:"version"`
	State   store.FileState `json:"state"`
	Digest  string          `json:"digest"`
	Blocks  []byte          `json:"blocks"` // a bit each, words little endian
	Sum     uint32          `json:"sum"`    // CRC32C of Blocks
}

const verifiedVersion = 1

// of returns the note of a mapped file. There is none of a file whose times
// might not tell that it changes.
func (d noteFolder) of(m *store.Mapping, f File) verifiedNote {
	n := verifiedNote{state: m.State, digest: f.Sum, mu: &sync.Mutex{}}
	if settled := max(m.State.Mtime, m.State.Ctime) < m.Opened.Add(-clockGrain).UnixNano(); d == "" || !settled || m.State.Inode == 0 {
		return n
	}
	n.path = filepath.Join(string(d), fmt.Sprintf("%x-%x.json", m.State.Device, m.State.Inode))
	return n
}

// recall marks the blocks that held before.
func (n *verifiedNote) recall(f *mappedFile) {
	n.kept = f.left.Load()
	if n.path == "" {
		return
	}
	text, err := os.ReadFile(n.path)
	var v verified
	if err != nil || json.Unmarshal(text, &v) != nil || v.Version != verifiedVersion || v.State != n.state || v.Digest != n.digest ||
		len(v.Blocks) != 8*len(f.held) || crc32.Checksum(v.Blocks, castagnoli) != v.Sum {
		return
	}
	for k := range len(f.sums) / 4 {
		if bit := uint64(1) << (k % 64); v.Blocks[k/8]>>(k%8)&1 == 1 && f.held[k/64].Or(bit)&bit == 0 {
			f.left.Add(-1)
		}
	}
	n.kept = f.left.Load()
}

// remember writes the note if blocks were checked since. That it cannot be
// written costs a later process the time to check them again.
func (n *verifiedNote) remember(f *mappedFile) {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := f.left.Load()
	if n.path == "" || left >= n.kept {
		return
	}
	v := verified{Version: verifiedVersion, State: n.state, Digest: n.digest}
	for i := range f.held {
		word := f.held[i].Load()
		for k := range 8 {
			v.Blocks = append(v.Blocks, byte(word>>(8*k)))
		}
	}
	v.Sum = crc32.Checksum(v.Blocks, castagnoli)
	text, err := json.Marshal(v)
	if err == nil && store.Keep(n.path, "*.tmp", 0o700, text) {
		n.kept = left
	}
}
