package bert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// source is a file whose content decides the output.
type source struct {
	field string // its name in the fingerprint
	path  string
}

// sources lists the files of a directory that are too large to be declared
// value by value: weights and tokenizer.
func (d *directory) sources() ([]source, error) {
	var out []source
	add := func(prefix, folder string, names []string) {
		for _, name := range names {
			out = append(out, source{prefix + name, filepath.Join(folder, name)})
		}
	}
	names, err := weightFiles(d.transformer)
	if err != nil {
		return nil, err
	}
	add("sha256 ", d.transformer, names)
	for i, s := range d.steps {
		if s.dense == nil {
			continue
		}
		if names, err = weightFiles(s.dense.folder); err != nil {
			return nil, err
		}
		add(fmt.Sprintf("sha256 step %d ", i), s.dense.folder, names)
	}
	for _, name := range tokenizer.Files {
		if _, err := os.Stat(filepath.Join(d.transformer, name)); err == nil {
			add("sha256 ", d.transformer, []string{name})
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// hashes declares the content of the directory's sources.
func (d *directory) hashes(ctx context.Context) ([]encode.Field, error) {
	files, err := d.sources()
	if err != nil {
		return nil, err
	}
	fields := make([]encode.Field, len(files))
	for i, f := range files {
		sum, err := digests.of(ctx, f.path)
		if err != nil {
			return nil, fmt.Errorf("hash %s: %w", filepath.Base(f.path), err)
		}
		fields[i] = encode.Field{Name: f.field, Value: sum}
	}
	return fields, nil
}

// digests remembers the digests of files that stay as they are.
var digests = digestCache{byPath: map[string]*fileDigest{}}

type digestCache struct {
	mu     sync.Mutex
	byPath map[string]*fileDigest
}

type fileDigest struct {
	info fs.FileInfo
	sum  string
}

// of returns the SHA-256 of a file's content in hexadecimal.
func (c *digestCache) of(ctx context.Context, path string) (string, error) {
	// One at a time: several workers ask for the same file.
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if d := c.byPath[path]; d != nil && unchanged(d.info, info) {
		return d.sum, nil
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	sum := hex.EncodeToString(h.Sum(nil))
	c.byPath[path] = &fileDigest{info, sum}
	return sum, nil
}

// unchanged reports whether two looks at a path saw the same file.
func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// shared are the networks that opened encoders use.
var shared networkPool

type networkPool struct {
	mu  sync.Mutex
	all []*loaded
}

// loaded is a network with the number of its users.
type loaded struct {
	dir     *directory
	files   []fs.FileInfo
	users   int
	loading sync.Mutex // held while net is being loaded
	net     *network
}

// open returns the network of a directory, which is loaded unless another
// encoder uses it and its files are still the same, and a function that gives
// it back.
func (p *networkPool) open(ctx context.Context, d *directory) (*network, func(), error) {
	files, err := d.state()
	if err != nil {
		return nil, nil, err
	}
	l := p.find(d, files)
	l.loading.Lock()
	defer l.loading.Unlock()
	if l.net == nil {
		// A load that fails, or whose caller gives up, leaves it to the next.
		if l.net, err = load(ctx, d); err != nil {
			p.leave(l)
			return nil, nil, err
		}
	}
	return l.net, func() { p.leave(l) }, nil
}

// find returns the entry of a directory, with one more user.
func (p *networkPool) find(d *directory, files []fs.FileInfo) *loaded {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.all {
		if reflect.DeepEqual(l.dir, d) && slices.EqualFunc(l.files, files, unchanged) {
			l.users++
			return l
		}
	}
	l := &loaded{dir: d, files: files, users: 1}
	p.all = append(p.all, l)
	return l
}

func (p *networkPool) leave(l *loaded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.users--; l.users == 0 {
		p.all = slices.DeleteFunc(p.all, func(o *loaded) bool { return o == l })
	}
}

// state is what the directory's sources are now.
func (d *directory) state() ([]fs.FileInfo, error) {
	files, err := d.sources()
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, len(files))
	for i, f := range files {
		if infos[i], err = os.Stat(f.path); err != nil {
			return nil, err
		}
	}
	return infos, nil
}
