package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// clockGrain is the coarsest step of a file system's clock. A file may be
// written again within one step and keep its times, so that times younger than
// a step when the file was read say nothing about its content.
const clockGrain = 2 * time.Second

type checkSources struct{}

// CheckSources returns a context under which every Identity reads its files,
// as if [FileOptions.CheckSources] were set: for sources that somebody else
// has made or wrapped.
func CheckSources(ctx context.Context) context.Context {
	return context.WithValue(ctx, checkSources{}, true)
}

// reads reports whether files are read whatever is remembered of them.
func (o FileOptions) reads(ctx context.Context) bool {
	return o.CheckSources || ctx.Value(checkSources{}) != nil
}

// fileState is all that a file system says of a file without reading it. Times
// are in nanoseconds since 1970.
type fileState struct {
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"`
	Ctime  int64  `json:"ctime"`
	Inode  uint64 `json:"inode"`
	Device uint64 `json:"device"`
}

// hint is what is remembered of a file. It is a hint only: it saves reading,
// and whatever is odd about it means that the file is read.
type hint struct {
	Version int       `json:"version"`
	State   fileState `json:"state"`
	Hashed  int64     `json:"hashed"` // when reading began, ns since 1970
	Digest  string    `json:"digest"`
}

const hintVersion = 1

// settled reports whether the file was last changed so long before it was read
// that a later change must show in its times.
func (h hint) settled() bool {
	return max(h.State.Mtime, h.State.Ctime) < h.Hashed-clockGrain.Nanoseconds()
}

// hintFile is where the hint of one file is kept; empty for nowhere.
type hintFile string

func (o FileOptions) hints(path string) hintFile {
	dir := o.HintDir
	if o.NoHints {
		return ""
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(cache, "permafrost", "identity")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	key := sha256.Sum256([]byte(abs))
	return hintFile(filepath.Join(dir, hex.EncodeToString(key[:])+".json"))
}

// recall returns the digest of the file if it surely is the one remembered.
func (f hintFile) recall(info os.FileInfo) (string, bool) {
	state, ok := stateOf(info)
	if !ok {
		return "", false
	}
	return f.recallState(state)
}

func (f hintFile) recallState(state fileState) (string, bool) {
	if f == "" {
		return "", false
	}
	text, err := os.ReadFile(string(f))
	if err != nil {
		return "", false
	}
	var h hint
	if json.Unmarshal(text, &h) != nil || h.Version != hintVersion || h.State != state || !h.settled() {
		return "", false
	}
	digest, err := hex.DecodeString(h.Digest)
	return h.Digest, err == nil && len(digest) == sha256.Size
}

// remember writes the hint if it can ever be trusted. That it cannot be
// written costs a later run the time to read the file, and nothing else.
func (f hintFile) remember(before, after os.FileInfo, begin time.Time, digest string) {
	was, ok := stateOf(before)
	if is, _ := stateOf(after); ok && was == is {
		f.rememberState(was, begin, digest)
	}
}

func (f hintFile) rememberState(state fileState, begin time.Time, digest string) {
	h := hint{hintVersion, state, begin.UnixNano(), digest}
	if f == "" || !h.settled() {
		return
	}
	if text, err := json.Marshal(h); err == nil {
		store.Keep(string(f), "*.tmp", 0o700, text)
	}
}
