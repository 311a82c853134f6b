package models

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// The endings of a file that is being downloaded, and of the one that keeps
// the ETag under which its bytes came.
const (
	partialSuffix = ".partial"
	etagSuffix    = ".partial.etag"
)

// enough is how many more bytes an attempt must bring to count as progress.
const enough = 1 << 20

// blob is what a file must be: its size and the SHA-256, or the SHA-1 as git
// counts it for files that it keeps itself.
type blob struct {
	path        string
	size        int64
	sha256, git string
}

// hasher hashes content in both ways.
type hasher struct {
	io.Writer
	sha256, git hash.Hash
}

func newHasher(size int64) *hasher {
	h := &hasher{sha256: sha256.New(), git: sha1.New()}
	fmt.Fprintf(h.git, "blob %d\x00", size)
	h.Writer = io.MultiWriter(h.sha256, h.git)
	return h
}

// check returns the file that was hashed if it is the blob.
func (b *blob) check(h *hasher) (File, error) {
	f := File{Path: b.path, Size: b.size, SHA256: hex.EncodeToString(h.sha256.Sum(nil))}
	kind, got, want := "SHA-256", f.SHA256, b.sha256
	if want == "" {
		kind, got, want = "git SHA-1", hex.EncodeToString(h.git.Sum(nil)), b.git
	}
	if got != want {
		return f, fmt.Errorf("%w: the %s of %s is %s, the hub lists %s", ErrChecksum, kind, b.path, got, want)
	}
	return f, nil
}

// checkFile hashes a file from its beginning: what counts is what the disk
// has, in however many pieces it came.
func (b *blob) checkFile(ctx context.Context, at string) (File, error) {
	f, err := os.Open(at)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != b.size || !info.Mode().IsRegular() {
		return File{}, cmp.Or(err, fmt.Errorf("%w: %s has not %d bytes", ErrChecksum, b.path, b.size))
	}
	h := newHasher(b.size)
	r := &counted{ctx: ctx, r: f, add: func(int64) {}}
	if _, err := io.CopyBuffer(h, r, make([]byte, 256<<10)); err != nil {
		return File{}, err
	}
	return b.check(h)
}

// fetch is the download of one file to a path.
type fetch struct {
	hub  *hub
	url  string
	want blob
	to   string
	// received is called with the number of bytes that came since the last
	// call, less those that were dropped.
	received func(int64)

	high int64 // the most bytes that were ever there
}

// run downloads the file, from where an earlier attempt stopped, and checks
// it. Bytes that are wrong are deleted; after other errors they stay.
func (f *fetch) run(ctx context.Context) (File, error) {
	partial := f.to + partialSuffix
	if n := f.have(); n > f.want.size {
		if err := f.restart(); err != nil {
			return File{}, err
		}
	}
	f.high = f.have()
	f.received(f.high)
	err := f.hub.retry(ctx, f.want.path, f.attempt)
	if err != nil {
		return File{}, fmt.Errorf("download %s: %w", f.want.path, err)
	}
	got, err := f.want.checkFile(ctx, partial)
	if errors.Is(err, ErrChecksum) {
		f.received(-f.want.size)
		err = errors.Join(err, f.restart())
	}
	if err != nil {
		return File{}, err
	}
	if err := os.Rename(partial, f.to); err != nil {
		return File{}, err
	}
	return got, remove(f.to + etagSuffix)
}

// have is the number of bytes that are there.
func (f *fetch) have() int64 {
	info, err := os.Stat(f.to + partialSuffix)
	if err != nil {
		return 0
	}
	return info.Size()
}

// restart deletes what is there.
func (f *fetch) restart() error {
	return errors.Join(remove(f.to+partialSuffix), remove(f.to+etagSuffix))
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// attempt brings the missing bytes, or as many as come.
func (f *fetch) attempt(ctx context.Context) (err error) {
	w, err := os.OpenFile(f.to+partialSuffix, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	info, err := w.Stat()
	if err != nil {
		return err
	}
	n := info.Size()
	if n == f.want.size {
		return w.Sync()
	}
	etag := ""
	header := http.Header{}
	if n > 0 {
		saved, err := os.ReadFile(f.to + etagSuffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		etag = string(saved)
		header.Set("Range", fmt.Sprintf("bytes=%d-", n))
		if etag != "" {
			header.Set("If-Range", etag)
		}
	}
	ctx, alive, stop := f.hub.watch(ctx)
	defer stop()
	resp, err := f.hub.get(ctx, f.url, header)
	if err != nil {
		return f.stalled(ctx, err)
	}
	defer resp.Body.Close()
	anew := false
	switch resp.StatusCode {
	case http.StatusOK: // a hub without ranges, or other content than before
		anew = true
	case http.StatusPartialContent:
		first, size, ok := contentRange(resp.Header.Get("Content-Range"))
		if now := strongETag(resp.Header); n == 0 || !ok || first != n || size >= 0 && size != f.want.size || etag != "" && now != "" && now != etag {
			return f.drop(w, n, fmt.Errorf("%w sends another part than the one asked for", ErrHub))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return f.drop(w, n, fmt.Errorf("%w answers %s", ErrHub, resp.Status))
	default:
		return statusError(resp, f.want.path)
	}
	left := f.want.size - n
	if anew {
		left = f.want.size
	}
	if got := resp.ContentLength; got >= 0 && got != left {
		return fmt.Errorf("%w: the hub sends %d bytes where %d are missing of the %d that it lists", ErrChecksum, got, left, f.want.size)
	}
	if anew {
		if err := f.empty(w, n); err != nil {
			return err
		}
		if err := os.WriteFile(f.to+etagSuffix, []byte(strongETag(resp.Header)), 0o666); err != nil {
			return err
		}
		n = 0
	}
	if _, err := w.Seek(n, io.SeekStart); err != nil {
		return err
	}
	body := &counted{ctx: ctx, r: io.LimitReader(resp.Body, left+1), add: func(int64) { alive() }}
	copied, err := io.CopyBuffer(writerFunc(func(b []byte) (int, error) {
		m, err := w.Write(b)
		f.received(int64(m))
		return m, err
	}), body, make([]byte, 256<<10))
	n += copied
	switch {
	case body.err != nil:
		err = f.stalled(ctx, &transient{err: body.err})
	case err == nil && copied > left:
		return errors.Join(fmt.Errorf("%w: the hub sends more than the %d bytes that it lists", ErrChecksum, f.want.size), f.empty(w, n))
	case err == nil && copied < left:
		err = &transient{err: io.ErrUnexpectedEOF}
	}
	var t *transient
	if errors.As(err, &t) {
		t.progress = n >= f.high+enough
		f.high = max(f.high, n)
	}
	return errors.Join(err, w.Sync())
}

// stalled names the reason of an attempt that was ended for want of bytes.
func (f *fetch) stalled(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return &transient{err: errStalled}
	}
	return err
}

// empty drops the bytes that are there.
func (f *fetch) empty(w *os.File, n int64) error {
	f.received(-n)
	return errors.Join(remove(f.to+etagSuffix), w.Truncate(0))
}

// drop makes the next attempt start anew.
func (f *fetch) drop(w *os.File, n int64, why error) error {
	if err := f.empty(w, n); err != nil {
		return err
	}
	return &transient{err: why}
}

// writerFunc is a function as a writer; it hides the file's ReadFrom.
type writerFunc func([]byte) (int, error)

func (fn writerFunc) Write(b []byte) (int, error) { return fn(b) }

// strongETag is a response's ETag, "" if it has none or a weak one, which
// does not tell whether bytes are the same.
func strongETag(h http.Header) string {
	if tag := h.Get("ETag"); !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return ""
}

// contentRange reads "bytes FIRST-LAST/SIZE"; a size of * is -1.
func contentRange(v string) (first, size int64, ok bool) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	from, _, ok3 := strings.Cut(span, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	size = -1
	if total != "*" {
		var err2 error
		size, err2 = strconv.ParseInt(total, 10, 64)
		err = errors.Join(err, err2)
	}
	return first, size, ok && ok2 && ok3 && err == nil
}
