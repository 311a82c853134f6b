package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// blockTmp starts the names of blocks that are being written.
	blockTmp = "new-"
	// blockTmpAge is how old such a file must be before another process may
	// take it for one that a killed process left.
	blockTmpAge = time.Hour
	// rescanPart is the part of the limit that a process adds before it looks
	// what others have added.
	rescanPart = 16
)

// blockCache keeps blocks of files in a folder, a file each, and removes those
// that were not read for the longest time when they take more than limit
// bytes. Several processes may share the folder. Its failures are no errors:
// a block that cannot be kept is fetched again.
type blockCache struct {
	dir   string
	limit int64 // bytes; 0 keeps nothing
	locks locks // by file, so that a block is fetched once

	mu      sync.Mutex
	scanned bool
	used    int64 // bytes when last looked, and what was added since
	added   int64 // since last looked
}

func newBlockCache(dir string, limit int64) *blockCache { return &blockCache{dir: dir, limit: limit} }

func (c *blockCache) path(id string, k int64) string {
	return filepath.Join(c.dir, id[:2], fmt.Sprintf("%s.%d", id, k))
}

// read reads b from a block of size bytes, at offset off in it. Where the
// block is not here fetch gets it.
func (c *blockCache) read(b []byte, off int64, id string, k, size int64, fetch func([]byte) error) error {
	path := c.path(id, k)
	if c.hit(path, b, off, size) {
		return nil
	}
	defer c.locks.lock(path)()
	if c.hit(path, b, off, size) { // it came while this waited
		return nil
	}
	block := make([]byte, size)
	if err := fetch(block); err != nil {
		return err
	}
	copy(b, block[off:])
	c.keep(path, block)
	return nil
}

// hit reads from a kept block, and notes that it was read.
func (c *blockCache) hit(path string, b []byte, off, size int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		return false // cut by a power cut; it is replaced
	}
	if n, err := f.ReadAt(b, off); n < len(b) || err != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	return true
}

func (c *blockCache) drop(id string, k int64) { _ = os.Remove(c.path(id, k)) }

// keep writes a block, after making room for it.
func (c *blockCache) keep(path string, block []byte) {
	if c.room(int64(len(block))) {
		store.Keep(path, blockTmp+"*", 0o777, block)
	}
}

// room makes room for n bytes, and counts them.
func (c *blockCache) room(n int64) bool {
	if n > c.limit {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.scanned || c.used+n > c.limit || c.added+n > c.limit/rescanPart {
		c.evict(n)
	}
	c.used, c.added = c.used+n, c.added+n
	return true
}

// keptBlock is a file of the folder.
type keptBlock struct {
	path string
	size int64
	read time.Time
}

// evict looks what there is, and removes blocks until there is room for n
// bytes; then a sixteenth of the limit more, so that it need not be done for
// each block.
func (c *blockCache) evict(n int64) {
	var blocks []keptBlock
	var used int64
	_ = filepath.WalkDir(c.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil // removed by another process since
		}
		if len(e.Name()) > len(blockTmp) && e.Name()[:len(blockTmp)] == blockTmp && time.Since(info.ModTime()) > blockTmpAge {
			_ = os.Remove(path)
			return nil
		}
		blocks = append(blocks, keptBlock{path, info.Size(), info.ModTime()})
		used += info.Size()
		return nil
	})
	if used+n > c.limit {
		slices.SortFunc(blocks, func(a, b keptBlock) int { return a.read.Compare(b.read) })
		for _, b := range blocks {
			if used+n <= c.limit-c.limit/rescanPart {
				break
			}
			if err := os.Remove(b.path); err == nil || errors.Is(err, fs.ErrNotExist) {
				used -= b.size
			}
		}
	}
	c.scanned, c.used, c.added = true, used, 0
}
