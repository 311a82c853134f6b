package storetest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// ErrPower is what the operations on a [Disk] without power return.
var ErrPower = errors.New("the power is off")

// Disk is a filesystem in memory that knows what is durable, for tests of
// what a power cut leaves. Of a file that is what was there at its last Sync;
// of the names in a folder, those of its last SyncDir, whatever else was
// synced. It is safe for concurrent use. Set its field before use.
type Disk struct {
	// CutAt is the number, from 1, of the operation after which the power
	// fails: all later ones are ErrPower. Default: 0, none.
	CutAt int

	mu      sync.Mutex
	ops     int
	root    *node
	journal []change // of names, in order, that are not durable
}

// node is a file or a folder.
type node struct {
	names map[string]*node // of a folder; nil for a file
	safe  map[string]*node // of these, the durable ones
	data  []byte
	saved int   // bytes of data that are durable
	ends  []int // of the writes since
	time  time.Time
}

// change is a step that the disk makes whole or not at all.
type change []edit

// edit gives a name in a folder to a node, or with nil takes it away.
type edit struct {
	dir  *node
	name string
	to   *node
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{root: newFolder()} }

func newFolder() *node {
	return &node{names: map[string]*node{}, safe: map[string]*node{}, time: time.Now()}
}

// Ops returns the number of operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Killed returns the disk as another process finds it after the one that used
// d was killed: with all that was written, durable or not. d is left as it is.
func (d *Disk) Killed() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := copier{}
	out := &Disk{root: c.node(d.root)}
	for _, ch := range d.journal {
		var own change
		for _, e := range ch {
			own = append(own, edit{c.node(e.dir), e.name, c.node(e.to)})
		}
		out.journal = append(out.journal, own)
	}
	return out
}

// Cut returns the disk as it is found when the power is back. Of what was not
// durable, about the fraction keep is there, chosen by seed: of names, the
// first changes or any of them; of a file, its first bytes, or any of its
// writes, or any of its pages, with zeros where others are missing. d is left
// as it is.
func (d *Disk) Cut(seed uint64, keep float64) *Disk {
	out := d.Killed()
	rng := rand.New(rand.NewPCG(seed, 0))
	some := func() bool { return rng.Float64() < keep }
	if rng.IntN(2) == 0 {
		out.journal = out.journal[:int(keep*float64(len(out.journal)))]
		some = func() bool { return true }
	}
	for _, ch := range out.journal {
		if some() {
			ch.settle()
		}
	}
	out.journal = nil
	out.root.restart(rng, keep, map[*node]bool{})
	return out
}

func (c change) settle() {
	for _, e := range c {
		set(e.dir.safe, e.name, e.to)
	}
}

func set(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

// page is the unit in which a disk loses bytes of a file.
const page = 512

// restart leaves what is durable, and the fraction keep of the bytes that are
// not.
func (n *node) restart(rng *rand.Rand, keep float64, seen map[*node]bool) {
	if n == nil || seen[n] {
		return
	}
	seen[n] = true
	if n.names != nil {
		n.names = maps.Clone(n.safe)
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			n.names[name].restart(rng, keep, seen)
		}
		return
	}
	some := func() bool { return rng.Float64() < keep }
	size := n.saved
	lose := func(from, to int) {
		if some() {
			size = to
		} else {
			clear(n.data[from:to])
		}
	}
	switch rng.IntN(3) {
	case 0:
		size += int(keep * float64(len(n.data)-n.saved))
	case 1:
		at := n.saved
		for _, end := range n.ends {
			lose(at, end)
			at = end
		}
	default:
		for at := n.saved; at < len(n.data); {
			end := min(at-at%page+page, len(n.data))
			lose(at, end)
			at = end
		}
		if some() {
			size = len(n.data) // the length came through, the bytes did not
		}
	}
	n.data, n.saved, n.ends = n.data[:size], size, nil
}

// copier copies nodes, each once.
type copier map[*node]*node

func (c copier) node(n *node) *node {
	if n == nil {
		return nil
	}
	if out := c[n]; out != nil {
		return out
	}
	out := &node{data: slices.Clone(n.data), saved: n.saved, ends: slices.Clone(n.ends), time: n.time}
	c[n] = out
	if n.names != nil {
		out.names, out.safe = c.all(n.names), c.all(n.safe)
	}
	return out
}

func (c copier) all(names map[string]*node) map[string]*node {
	out := make(map[string]*node, len(names))
	for name, n := range names {
		out[name] = c.node(n)
	}
	return out
}

// Files returns the content of every file under a folder, by slash-separated
// name.
func (d *Disk) Files(dir string) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]string{}
	if n, err := d.find("list", dir); err == nil {
		n.files("", out)
	}
	return out
}

func (n *node) files(name string, out map[string]string) {
	if n.names == nil {
		out[name] = string(n.data)
	}
	for below, child := range n.names {
		child.files(path.Join(name, below), out)
	}
}

// Change gives a file other bytes, durably, under whatever is open: damage.
// It is not an operation.
func (d *Disk) Change(name string, change func([]byte) []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find("change", name)
	if err != nil {
		return err
	}
	n.data = change(slices.Clone(n.data))
	n.saved, n.ends = len(n.data), nil
	return nil
}

// Age makes all files older. It is not an operation.
func (d *Disk) Age(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[*node]bool{}
	var age func(n *node)
	age = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		n.time = n.time.Add(-by)
		for _, below := range n.names {
			age(below)
		}
	}
	age(d.root)
}

// start begins an operation; the caller unlocks d.mu.
func (d *Disk) start(op, name string) error {
	d.mu.Lock()
	if d.CutAt > 0 && d.ops >= d.CutAt {
		return &fs.PathError{Op: op, Path: name, Err: ErrPower}
	}
	d.ops++
	return nil
}

func elements(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name[len(filepath.VolumeName(name)):])), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func (d *Disk) find(op, name string) (*node, error) {
	n := d.root
	for _, e := range elements(name) {
		if n = n.names[e]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

// place finds the folder of a name, and its last element.
func (d *Disk) place(op, name string) (dir *node, last string, err error) {
	dir, err = d.find(op, filepath.Dir(name))
	if err == nil && dir.names == nil {
		err = &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return dir, filepath.Base(name), err
}

func (d *Disk) change(edits ...edit) {
	for _, e := range edits {
		set(e.dir.names, e.name, e.to)
	}
	d.journal = append(d.journal, edits)
}

// Open implements [store.FS].
func (d *Disk) Open(name string) (store.File, error) {
	err := d.start("open", name)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	return &diskFile{d, n, name}, nil
}

// CreateTemp implements [store.FS].
func (d *Disk) CreateTemp(dir, pattern string) (store.File, error) {
	return d.CreateExclusive(filepath.Join(dir, strings.Replace(pattern, "*", strconv.FormatUint(rand.Uint64(), 36), 1)))
}

// CreateExclusive implements [store.FS].
func (d *Disk) CreateExclusive(name string) (store.File, error) {
	err := d.start("create", name)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	dir, last, err := d.place("create", name)
	if err == nil && dir.names[last] != nil {
		err = &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if err != nil {
		return nil, err
	}
	n := &node{time: time.Now()}
	d.change(edit{dir, last, n})
	return &diskFile{d, n, name}, nil
}

// MkdirAll implements [store.FS].
func (d *Disk) MkdirAll(name string) error {
	err := d.start("mkdir", name)
	defer d.mu.Unlock()
	n := d.root
	for _, e := range elements(name) {
		if err != nil {
			return err
		}
		if n.names == nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		if n.names[e] == nil {
			d.change(edit{n, e, newFolder()})
		}
		n = n.names[e]
	}
	return err
}

// Link implements [store.FS].
func (d *Disk) Link(from, to string) error {
	err := d.start("link", to)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	n, err := d.find("link", from)
	if err != nil {
		return err
	}
	dir, last, err := d.place("link", to)
	if err == nil && dir.names[last] != nil {
		err = &fs.PathError{Op: "link", Path: to, Err: fs.ErrExist}
	}
	if err == nil {
		d.change(edit{dir, last, n})
	}
	return err
}

// Rename implements [store.FS].
func (d *Disk) Rename(from, to string) error {
	err := d.start("rename", to)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	n, err := d.find("rename", from)
	if err != nil {
		return err
	}
	old, was, err := d.place("rename", from)
	if err != nil {
		return err
	}
	dir, last, err := d.place("rename", to)
	if err == nil {
		d.change(edit{old, was, nil}, edit{dir, last, n})
	}
	return err
}

// Remove implements [store.FS].
func (d *Disk) Remove(name string) error {
	err := d.start("remove", name)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	n, err := d.find("remove", name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, last, err := d.place("remove", name)
	if err == nil {
		d.change(edit{dir, last, nil})
	}
	return err
}

// Stat implements [store.FS].
func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	err := d.start("stat", name)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(name), nil
}

// ReadDir implements [store.FS].
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	err := d.start("readdir", name)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.find("readdir", name)
	if err != nil {
		return nil, err
	}
	var out []fs.DirEntry
	for _, below := range slices.Sorted(maps.Keys(n.names)) {
		out = append(out, fs.FileInfoToDirEntry(n.names[below].info(below)))
	}
	return out, nil
}

// SyncDir implements [store.FS].
func (d *Disk) SyncDir(name string) error {
	err := d.start("syncdir", name)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	n, err := d.find("syncdir", name)
	if err != nil {
		return err
	}
	d.journal = slices.DeleteFunc(d.journal, func(c change) bool {
		here := slices.ContainsFunc(c, func(e edit) bool { return e.dir == n })
		if here {
			c.settle()
		}
		return here
	})
	return nil
}

type diskFile struct {
	d    *Disk
	n    *node
	name string
}

func (f *diskFile) Name() string { return f.name }

func (f *diskFile) Write(b []byte) (int, error) {
	err := f.d.start("write", f.name)
	defer f.d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	f.n.data = append(f.n.data, b...)
	f.n.ends = append(f.n.ends, len(f.n.data))
	f.n.time = time.Now()
	return len(b), nil
}

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	err := f.d.start("read", f.name)
	defer f.d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) Sync() error {
	err := f.d.start("sync", f.name)
	defer f.d.mu.Unlock()
	if err == nil {
		f.n.saved, f.n.ends = len(f.n.data), nil
	}
	return err
}

func (f *diskFile) Stat() (fs.FileInfo, error) {
	err := f.d.start("stat", f.name)
	defer f.d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.n.info(f.name), nil
}

func (f *diskFile) Close() error {
	err := f.d.start("close", f.name)
	defer f.d.mu.Unlock()
	return err
}

func (n *node) info(name string) fs.FileInfo {
	return nodeInfo{filepath.Base(name), int64(len(n.data)), n.names != nil, n.time}
}

type nodeInfo struct {
	name string
	size int64
	dir  bool
	time time.Time
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.size }
func (i nodeInfo) ModTime() time.Time { return i.time }
func (i nodeInfo) IsDir() bool        { return i.dir }
func (i nodeInfo) Sys() any           { return nil }

func (i nodeInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}
