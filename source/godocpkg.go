package source

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/scanner"
	"go/token"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// godocPackage is a folder of Go files.
type godocPackage struct {
	path  string // import path
	dir   string
	names []string // of files, sorted
}

// goFile is a file that belongs to the package on linux/amd64.
type goFile struct {
	name string
	text []byte
}

// godocPair is a row of a package before repeated texts are left out, or why a
// file has none.
type godocPair struct {
	row GodocRow
	pos Pos
	err *RowError
}

// goPlatform is what files are chosen for: one platform, with cgo and without
// experiments, and any version of Go, because a tree is read whole.
func goPlatform() *build.Context {
	c := &build.Context{GOOS: "linux", GOARCH: "amd64", Compiler: "gc", CgoEnabled: true}
	for minor := 1; minor < 100; minor++ {
		c.ReleaseTags = append(c.ReleaseTags, fmt.Sprintf("go1.%d", minor))
	}
	return c
}

// read yields the files of the package that are for the platform.
func (p godocPackage) read() iter.Seq2[goFile, error] {
	return func(yield func(goFile, error) bool) {
		platform := goPlatform()
		for _, name := range p.names {
			text, err := os.ReadFile(filepath.Join(p.dir, name))
			if err != nil {
				yield(goFile{}, fmt.Errorf("godoc: %w", err))
				return
			}
			platform.OpenFile = func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
			// A file that is no Go is reported when it is parsed.
			if match, err := platform.MatchFile(p.dir, name); !match && err == nil {
				continue
			}
			if !yield(goFile{name, text}, nil) {
				return
			}
		}
	}
}

// pairs parses the package.
func (p godocPackage) pairs() ([]godocPair, error) {
	var pairs []godocPair
	for file, err := range p.read() {
		if err != nil {
			return nil, err
		}
		path := filepath.Join(p.dir, file.name)
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, path, file.text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			pairs = append(pairs, godocPair{err: parseError(path, err)})
			continue
		}
		if tree.Name.Name == "main" {
			continue
		}
		w := &godocWalk{path: p.path, set: set, file: path}
		for _, decl := range tree.Decls {
			w.decl(decl)
		}
		pairs = append(pairs, w.pairs...)
	}
	return pairs, nil
}

func parseError(path string, err error) *RowError {
	if list := scanner.ErrorList(nil); errors.As(err, &list) && len(list) > 0 {
		return &RowError{Pos: Pos{path, int64(list[0].Pos.Line)}, Err: errors.New(list[0].Msg)}
	}
	return &RowError{Pos: Pos{path, 1}, Err: err}
}

// godocWalk collects the pairs of one file.
type godocWalk struct {
	path  string
	file  string
	set   *token.FileSet
	pairs []godocPair
}

func (w *godocWalk) decl(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			receiver := receiverName(d.Recv)
			if !ast.IsExported(receiver) {
				return
			}
			name = receiver + "." + name
		}
		if d.Name.IsExported() {
			w.add(name, d.Doc, d.Pos(), func() string { return funcSignature(d) })
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					w.add(s.Name.Name, ownDoc(d, s.Doc), s.Pos(), func() string { return typeSignature(s) })
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() {
					w.add(s.Names[0].Name, ownDoc(d, s.Doc), s.Pos(), func() string { return valueSignature(d.Tok, s) })
				}
			}
		}
	}
}

// ownDoc is the comment of a spec; that of a group in parentheses is not its.
func ownDoc(d *ast.GenDecl, own *ast.CommentGroup) *ast.CommentGroup {
	if own == nil && !d.Lparen.IsValid() {
		return d.Doc
	}
	return own
}

// receiverName returns the type of a receiver without pointer and parameters.
func receiverName(recv *ast.FieldList) string {
	if len(recv.List) == 0 {
		return ""
	}
	t := recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func (w *godocWalk) add(name string, comment *ast.CommentGroup, pos token.Pos, signature func() string) {
	sentence := firstSentence(comment)
	if sentence == "" {
		return
	}
	place := Pos{w.file, int64(w.set.PositionFor(pos, false).Line)}
	w.pairs = append(w.pairs, godocPair{row: GodocRow{sentence, signature(), w.path, name}, pos: place})
}

// fewestWords is how many words a sentence has that says something.
const fewestWords = 4

// noBreak is a space that ends no sentence, as those behind abbreviations.
const noBreak = "\u00a0"

var notSentenceEnds = strings.NewReplacer("e.g. ", "e.g."+noBreak, "e.g.\n", "e.g."+noBreak, "i.e. ", "i.e."+noBreak, "i.e.\n", "i.e."+noBreak)

// docLink is a link to a symbol, which reads better without its brackets.
var docLink = regexp.MustCompile(`(^|[\s(])\[\*?([\pL_][\pL\pN_/]*(?:\.[\pL_][\pL\pN_]*)*)\]`)

// firstSentence returns the first sentence of a comment in one line; empty for
// one that is missing, deprecated or trivial.
func firstSentence(comment *ast.CommentGroup) string {
	text := comment.Text()
	if strings.HasPrefix(text, "Deprecated: ") || strings.Contains(text, "\n\nDeprecated: ") {
		return ""
	}
	sentence := new(doc.Package).Synopsis(notSentenceEnds.Replace(text))
	sentence = strings.ReplaceAll(sentence, noBreak, " ")
	sentence = docLink.ReplaceAllString(sentence, "$1$2")
	if len(strings.Fields(sentence)) < fewestWords {
		return ""
	}
	return sentence
}
