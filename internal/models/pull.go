package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// PullOptions are those of [Store.Pull].
type PullOptions struct {
	// Name is the model's. Default: the repository's.
	Name string
	// Revision is a branch, a tag or a commit. Default: main.
	Revision string
	// Endpoint is the hub's address. Default: [DefaultEndpoint].
	Endpoint string
	// Token is sent to the endpoint, and to nothing that it redirects to.
	// Default: none.
	Token string
	// ONNX takes the ONNX graph in place of the safetensors. Default: false.
	ONNX bool
	// Include are patterns of further files, or of the weights to take.
	// A pattern without a slash is for names, one with slashes for paths.
	Include []string
	// Force replaces another model of the same name. Default: false.
	Force bool
	// Retries bounds the attempts, after the first, that bring nothing new.
	// Default: 5; negative: none.
	Retries int
	// Backoff is the time before the second attempt; it doubles with each.
	// Default: 500 ms.
	Backoff time.Duration
	// IdleTimeout ends an attempt in which nothing comes. Default: 60 s.
	IdleTimeout time.Duration
	// Connections bounds the files that are downloaded at a time. Default: 4.
	Connections int
	// OnProgress, if set, is called with the bytes that are there of all,
	// from several goroutines.
	OnProgress func(done, total int64)
	// Logger is told of what is tried again. Default: none.
	Logger *slog.Logger
}

func (o PullOptions) withDefaults() PullOptions {
	o.Revision = cmp.Or(o.Revision, "main")
	o.Endpoint = cmp.Or(o.Endpoint, DefaultEndpoint)
	o.Retries = max(0, cmp.Or(o.Retries, 5))
	o.Backoff = cmp.Or(o.Backoff, 500*time.Millisecond)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Minute)
	o.Connections = max(1, cmp.Or(o.Connections, 4))
	if o.OnProgress == nil {
		o.OnProgress = func(int64, int64) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Pull downloads the model of a hub's repository, and checks every file by
// the hash that the hub lists. What a pull that failed or was killed has
// downloaded is kept, and the next pull of the same commit goes on with it.
// Files that the model of that name has already are not downloaded again.
// Another repository or commit under the name is ErrExists.
func (s *Store) Pull(ctx context.Context, repo string, o PullOptions) (*Result, error) {
	o = o.withDefaults()
	if strings.Contains(repo, "://") {
		return nil, fmt.Errorf("%w: %q: want ORG/NAME, not an address", ErrName, repo)
	}
	o.Name = cmp.Or(o.Name, repo)
	if err := cmp.Or(checkName(repo), checkName(o.Name)); err != nil {
		return nil, err
	}
	h, err := newHub(o)
	if err != nil {
		return nil, err
	}
	defer h.close()
	unlock, err := s.lock(o.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := s.pull(ctx, h, repo, o)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", repo, err)
	}
	return r, nil
}

func (s *Store) pull(ctx context.Context, h *hub, repo string, o PullOptions) (*Result, error) {
	if err := s.sweep(o.Name); err != nil {
		return nil, err
	}
	info, err := h.info(ctx, repo, o.Revision)
	if err != nil {
		return nil, err
	}
	had, err := s.before(o.Name)
	if err != nil {
		return nil, err
	}
	p := &pull{s: s, h: h, o: o, r: &Result{Status: Installed}, had: had}
	p.m = Manifest{Name: o.Name, Source: Source{Kind: FromHub, Repo: repo, Revision: o.Revision, Commit: info.Commit, Endpoint: plainURL(o.Endpoint)}}
	if err := p.plan(info); err != nil {
		return nil, err
	}
	done, err := p.compare(ctx)
	if err != nil {
		return nil, err
	}
	if done {
		return p.r, s.dropPartials(o.Name)
	}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.download(ctx); err != nil {
		return nil, err
	}
	if err := checkConfig(os.DirFS(p.stage)); err != nil {
		return nil, err
	}
	p.m.License = license(os.DirFS(p.stage))
	p.m.seal()
	if err := s.publish(p.stage, &p.m); err != nil {
		return nil, err
	}
	if err := s.dropPartials(o.Name); err != nil {
		return nil, err
	}
	model, err := s.load(o.Name)
	if err != nil {
		return nil, err
	}
	p.r.Model = *model
	return p.r, nil
}

// dropPartials removes what was downloaded of other commits of a model.
func (s *Store) dropPartials(name string) error {
	left, err := s.partials(name)
	if err != nil {
		return err
	}
	for _, p := range left {
		if err := s.removeTree(p.dir); err != nil {
			return err
		}
	}
	return nil
}

// plainURL is an address without a user and a password.
func plainURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User = nil
	return strings.TrimRight(u.String(), "/")
}

// pull is a pull under way.
type pull struct {
	s     *Store
	h     *hub
	o     PullOptions
	r     *Result
	m     Manifest
	had   *before
	blobs []blob
	total int64
	// sound are the files of the model of that name that are as wanted.
	sound map[string]bool
	stage string
}

// plan chooses the files and checks what the hub lists of them.
func (p *pull) plan(info *repository) error {
	paths := make([]string, 0, len(info.Files))
	files := map[string]remote{}
	for _, f := range info.Files {
		if _, twice := files[f.Path]; twice {
			return fmt.Errorf("%w lists %q twice", ErrHub, f.Path)
		}
		files[f.Path] = f
		paths = append(paths, f.Path)
	}
	chosen, omitted, err := choose(paths, p.o.ONNX, p.o.Include)
	if err != nil {
		return err
	}
	if p.had != nil && p.sameCommit() {
		// A pull of other files of the same commit adds to the model.
		for _, f := range p.had.Files {
			if _, there := files[f.Path]; there && !slices.Contains(chosen, f.Path) {
				chosen = append(chosen, f.Path)
				omitted = slices.DeleteFunc(omitted, func(o Omitted) bool { return o.Path == f.Path })
			}
		}
	}
	p.r.Omitted = omitted
	if len(chosen) > maxFiles {
		return fmt.Errorf("%w: %d files, at most %d", ErrNoModel, len(chosen), maxFiles)
	}
	for _, name := range chosen {
		if err := checkPath(name); err != nil {
			return fmt.Errorf("%w lists a file: %w", ErrHub, err)
		}
		b, err := files[name].blob()
		if err != nil {
			return err
		}
		p.blobs = append(p.blobs, b)
		p.total += b.size
		if p.total < 0 {
			return fmt.Errorf("%w lists sizes that no disk has", ErrHub)
		}
	}
	return nil
}

// blob is what the hub lists of a file.
func (f remote) blob() (blob, error) {
	b := blob{path: f.Path, size: -1, git: f.Blob}
	switch {
	case f.LFS != nil:
		b.size, b.sha256 = f.LFS.Size, f.LFS.SHA256
	case f.Size != nil:
		b.size = *f.Size
	}
	if b.size < 0 || f.LFS != nil && !isHex(b.sha256, 64) || f.LFS == nil && !isHex(b.git, 40) {
		return b, fmt.Errorf("%w lists no size and hash of %s, so it could not be checked", ErrHub, f.Path)
	}
	return b, nil
}

func (p *pull) sameCommit() bool {
	return p.had.Source.Repo == p.m.Source.Repo && p.had.Source.Commit == p.m.Source.Commit
}

// compare finds out what the model of that name has already; done if that
// is all.
func (p *pull) compare(ctx context.Context) (done bool, err error) {
	if p.had == nil {
		return false, nil
	}
	p.sound = map[string]bool{}
	for _, b := range p.blobs {
		if _, err := b.checkFile(ctx, p.had.file(b.path)); err == nil {
			p.sound[b.path] = true
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	known := 0
	for _, b := range p.blobs {
		if _, ok := p.had.Manifest.file(b.path); ok {
			known++
		}
	}
	switch {
	case len(p.sound) == len(p.blobs) && known == len(p.had.Files) && known == len(p.blobs):
		p.r.Model, p.r.Status, p.r.Reused = p.had.Model, Unchanged, p.total
		return true, nil
	case p.had.broken:
		p.r.Status = Repaired
	case p.sameCommit() && known == len(p.blobs):
		p.r.Status = Repaired
	case p.sameCommit():
		p.r.Status = Extended
	case !p.o.Force:
		return false, fmt.Errorf("%w: %s, from %s; the hub has %s", ErrExists, p.o.Name, p.had.Source, p.m.Source)
	default:
		p.r.Status = Replaced
	}
	return false, nil
}

// file is the path of a file of the model that was there.
func (b *before) file(name string) string { return filepath.Join(b.Dir, filepath.FromSlash(name)) }

// prepare makes the folder of the download, which the commit names, drops
// what does not belong there, and puts in what the model of that name has.
func (p *pull) prepare(ctx context.Context) error {
	p.stage = p.s.tmp(tmpPull + folderOf(p.o.Name) + "@" + p.m.Source.Commit[:12])
	wanted := map[string]bool{}
	for _, b := range p.blobs {
		at := filepath.Join(p.stage, filepath.FromSlash(b.path))
		if err := p.s.fsys.MkdirAll(filepath.Dir(at)); err != nil {
			return err
		}
		for _, suffix := range []string{"", partialSuffix, etagSuffix} {
			wanted[b.path+suffix] = true
		}
		if p.sound[b.path] {
			if err := link(p.had.file(b.path), at); err != nil {
				return err
			}
			p.r.Reused += b.size
		}
	}
	var missing int64
	err := fs.WalkDir(os.DirFS(p.stage), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !wanted[name] {
			return os.Remove(filepath.Join(p.stage, filepath.FromSlash(name)))
		}
		if info, err := d.Info(); err == nil {
			missing -= info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	missing += p.total
	if free := store.NewDir(p.s.dir, nil).Free(ctx); free >= 0 && missing > free {
		return fmt.Errorf("%d bytes are missing, and %s has room for %d: %w", missing, p.s.dir, free, syscall.ENOSPC)
	}
	return nil
}

// link gives a file a second name, or copies it where that cannot be.
func link(from, to string) error {
	if err := remove(to); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// download brings all files that are missing, several at a time.
func (p *pull) download(ctx context.Context) error {
	var done, downloaded atomic.Int64
	p.m.Files = make([]File, len(p.blobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.Connections)
	var resumed atomic.Int64
	for i, b := range p.blobs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			at := filepath.Join(p.stage, filepath.FromSlash(b.path))
			got, err := b.checkFile(ctx, at)
			if err == nil {
				if !p.sound[b.path] {
					resumed.Add(b.size)
				}
				p.o.OnProgress(done.Add(b.size), p.total)
				p.m.Files[i] = got
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := remove(at); err != nil {
				return err
			}
			f := fetch{hub: p.h, url: p.h.fileURL(p.m.Source.Repo, p.m.Source.Commit, b.path), want: b, to: at}
			first := true
			f.received = func(n int64) {
				if first { // what was there
					resumed.Add(n)
					first = false
				} else if n > 0 {
					downloaded.Add(n)
				}
				p.o.OnProgress(done.Add(n), p.total)
			}
			p.m.Files[i], err = f.run(ctx)
			return err
		})
	}
	err := g.Wait()
	p.r.Downloaded, p.r.Resumed = downloaded.Load(), resumed.Load()
	return err
}
