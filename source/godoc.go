package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// GodocOptions are the options of [Godoc]. The zero value is the default.
type GodocOptions struct {
	// Split is "train" or "val" for a part of the pairs. Default "": all.
	Split string
	// ValPercent is the share of the pairs, in percent, that is val. Default
	// 20.
	ValPercent int
}

// GodocRow is a documented part of a package's API.
type GodocRow struct {
	Doc       string `json:"doc"`       // the first sentence of the doc comment
	Signature string `json:"signature"` // the declaration in one line, without a body
	Package   string `json:"package"`   // import path
	Name      string `json:"name"`      // Func, Type, Type.Method
}

// GodocSource is a [Source] of documentation; see [Godoc]. It is immutable and
// safe for concurrent use.
type GodocSource[T GodocRow | Fields] struct {
	root string
	opts GodocOptions
}

var (
	_ Source[GodocRow] = (*GodocSource[GodocRow])(nil)
	_ Source[Fields]   = (*GodocSource[Fields])(nil)
)

// Godoc is the dataset of the exported API of the Go source tree under root:
// the first sentence of a symbol's doc comment beside its signature. An empty
// root is the standard library of the installed toolchain, several thousand
// pairs: GOROOT, or what "go env GOROOT" says. T is [GodocRow], or [Fields]
// with doc, signature, package and name.
//
// Functions, methods and types count, and constants and variables with a
// comment of their own. Left out are commands, tests, folders named internal,
// vendor, testdata or cmd, nested modules, what is deprecated, and sentences
// of fewer than four words. Files are chosen as for linux/amd64, wherever this
// runs. Rows are in the order of import path, file and position; a pair of
// which a part has occurred in an earlier pair is left out, so that no two
// rows, and no two splits, share a text.
//
// A file that is not Go is a [*RowError].
func Godoc[T GodocRow | Fields](root string, o GodocOptions) *GodocSource[T] {
	return &GodocSource[T]{root, o}
}

// Name returns the root, or "godoc" for the standard library.
func (s *GodocSource[T]) Name() string {
	if s.root == "" {
		return "godoc"
	}
	return s.root
}

func (s *GodocSource[T]) valPercent() (int, error) {
	if !slices.Contains([]string{"", "train", "val"}, s.opts.Split) {
		return 0, fmt.Errorf("godoc: a split is train or val, not %q", s.opts.Split)
	}
	if s.opts.ValPercent < 0 || s.opts.ValPercent > 100 {
		return 0, fmt.Errorf("godoc: %d percent of the pairs cannot be val", s.opts.ValPercent)
	}
	return cmp.Or(s.opts.ValPercent, 20), nil
}

// Identity is a digest of the files that the rows come from, with their paths
// below the root, of the options and of the version of Go that this program
// was built with.
func (s *GodocSource[T]) Identity(ctx context.Context) (string, error) {
	percent, err := s.valPercent()
	if err != nil {
		return "", err
	}
	packages, err := s.packages(ctx)
	if err != nil {
		return "", err
	}
	h := newIdentityHash("godoc")
	h.add(runtime.Version()) // its go/doc and go/printer make the texts
	h.add(fmt.Sprintf("%s of %d%%", s.opts.Split, percent))
	digests := eachPackage(ctx, packages, func(p godocPackage) (string, error) {
		part := newIdentityHash(p.path)
		for file, err := range p.read() {
			if err != nil {
				return "", err
			}
			part.add(file.name)
			part.add(string(file.text))
		}
		return part.identity(), nil
	})
	for digest, err := range digests {
		if err != nil {
			return "", err
		}
		h.add(digest)
	}
	return h.identity(), nil
}

// Rows parses the tree.
func (s *GodocSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		percent, err := s.valPercent()
		if err != nil {
			yield(Row[T]{}, err)
			return
		}
		packages, err := s.packages(ctx)
		if err != nil {
			yield(Row[T]{}, err)
			return
		}
		seen := make(map[string]bool)
		for pairs, err := range eachPackage(ctx, packages, godocPackage.pairs) {
			if err != nil {
				yield(Row[T]{}, err)
				return
			}
			for _, pair := range pairs {
				if pair.err != nil {
					if !yield(Row[T]{}, pair.err) {
						return
					}
					continue
				}
				row := pair.row
				if row.Doc == row.Signature || seen[row.Doc] || seen[row.Signature] {
					continue
				}
				seen[row.Doc], seen[row.Signature] = true, true
				if s.opts.Split != "" && isVal(row, percent) != (s.opts.Split == "val") {
					continue
				}
				if !yield(Row[T]{Value: godocValue[T](row), Pos: pair.pos}, nil) {
					return
				}
			}
		}
	}
}

// isVal decides by the texts alone, so that a pair stays in its split when
// others come and go.
func isVal(row GodocRow, percent int) bool {
	sum := sha256.Sum256([]byte(row.Doc + "\x00" + row.Signature))
	return binary.BigEndian.Uint64(sum[:])%100 < uint64(percent)
}

func godocValue[T GodocRow | Fields](row GodocRow) T {
	var v T
	switch p := any(&v).(type) {
	case *GodocRow:
		*p = row
	case *Fields:
		*p = Fields{"doc": row.Doc, "signature": row.Signature, "package": row.Package, "name": row.Name}
	}
	return v
}

// eachPackage applies fn to all packages, some at once, and yields the results
// in order. The first error ends it.
func eachPackage[R any](ctx context.Context, packages []godocPackage, fn func(godocPackage) (R, error)) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		workers := min(runtime.GOMAXPROCS(0), len(packages))
		results := make([]chan result, len(packages))
		for i := range results {
			results[i] = make(chan result, 1)
		}
		next := make(chan int)
		done := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(done)
		wg.Go(func() {
			defer close(next)
			for i := range packages {
				select {
				case next <- i:
				case <-done:
					return
				}
			}
		})
		for range workers {
			wg.Go(func() {
				for i := range next {
					value, err := fn(packages[i])
					results[i] <- result{value, err}
				}
			})
		}
		for i := range results {
			select {
			case r := <-results[i]:
				if !yield(r.value, r.err) || r.err != nil {
					return
				}
			case <-ctx.Done():
				var none R
				yield(none, context.Cause(ctx))
				return
			}
		}
	}
}

// packages lists the packages of the tree, sorted by import path.
func (s *GodocSource[T]) packages(ctx context.Context) ([]godocPackage, error) {
	root := s.root
	if root == "" {
		goroot, err := findGoroot(ctx)
		if err != nil {
			return nil, err
		}
		root = filepath.Join(goroot, "src")
	}
	root, err := filepath.EvalSymlinks(root) // a walk does not follow them
	if err != nil {
		return nil, fmt.Errorf("godoc: %w", err)
	}
	module := modulePath(root)
	var packages []godocPackage
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !entry.IsDir() {
			return nil
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if below != "." && isLeftOut(path, entry.Name()) {
			return filepath.SkipDir
		}
		names, err := goFiles(path)
		if err != nil || len(names) == 0 {
			return err
		}
		importPath := filepath.ToSlash(below)
		switch {
		case below == "." && module == "":
			importPath = filepath.Base(root)
		case below == ".":
			importPath = module
		case module != "":
			importPath = module + "/" + importPath
		}
		packages = append(packages, godocPackage{importPath, path, names})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("godoc: %w", err)
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("godoc: no Go files under %s", root)
	}
	slices.SortFunc(packages, func(a, b godocPackage) int { return cmp.Compare(a.path, b.path) })
	return packages, nil
}

// isLeftOut is true for folders whose packages are no API.
func isLeftOut(path, name string) bool {
	switch name {
	case "internal", "vendor", "testdata", "cmd":
		return true
	}
	if name[0] == '.' || name[0] == '_' {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

// goFiles returns the sorted names of the Go files of a folder, tests left out.
func goFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name[0] != '.' && name[0] != '_' && !e.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// modulePath returns the path of the module whose root a folder is: empty for
// none, and for the standard library, whose import paths do without.
func modulePath(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			if name = strings.Trim(strings.TrimSpace(name), "\"`"); name != "std" {
				return name
			}
			return ""
		}
	}
	return ""
}

// findGoroot finds the installed toolchain.
func findGoroot(ctx context.Context) (string, error) {
	goroot := os.Getenv("GOROOT")
	if goroot == "" {
		cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
		cmd.Env = append(cmd.Environ(), "GOTOOLCHAIN=local") // never fetch another one
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("find the Go standard library: run go env GOROOT: %w (install Go, set GOROOT or name a source tree)", err)
		}
		goroot = strings.TrimSpace(string(out))
	}
	if goroot == "" {
		return "", errors.New("find the Go standard library: go env GOROOT is empty (set GOROOT or name a source tree)")
	}
	return goroot, nil
}
