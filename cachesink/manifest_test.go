package cachesink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

func goodManifest() *Manifest {
	sum := strings.Repeat("0a", 32)
	fp := strings.Repeat("ab", 32)
	return &Manifest{
		Format: FormatVersion, Generation: 7,
		Encoders: []Encoder{{
			Name: "e", Fingerprint: fp, Folder: EncoderFolder("e", fp, Float32), Dim: 3, DType: Float32,
			Spec:   map[string]string{"seed": "<é&>"},
			Shards: []Shard{{ID: sum, File: File{"encoders/e/0", 4, 100, sum}}, {ID: fp, File: File{"encoders/e/1", 2, 90, sum}, Storage: "float32+zstd.1/500"}},
		}},
		Splits: []Split{
			{
				Name: "train", Fingerprint: fp, Kind: Group, Folder: "splits/train", Rows: 5,
				Encoders: []SplitEncoder{{Name: "e", Fingerprint: fp, Folder: EncoderFolder("e", fp, Float32), Input: `field "text"`, Objects: 4}, {Name: "f", Fingerprint: fp}},
				Files:    []File{{"splits/train/0", 5, 60, sum}}, Inputs: []File{{"inputs/train/0", 5, 60, sum}},
			},
			{Name: "val", Fingerprint: fp, Kind: Pair, Folder: "splits/val", Encoders: []SplitEncoder{}, Files: []File{}},
		},
	}
}

// sealed gives a document a digest that holds, whatever it says.
func sealed(doc string) []byte {
	body := strings.TrimSuffix(strings.TrimSpace(doc), "}")
	body = strings.TrimRight(body, "\n ,") + ",\n \"digest\": \""
	d := sha256.Sum256([]byte(body + "\"\n}"))
	return []byte(body + hex.EncodeToString(d[:]) + "\"\n}\n")
}

func TestManifestRoundTrip(t *testing.T) {
	m := goodManifest()
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v, want %+v", got, m)
	}
	// The digest is the one that the documentation describes.
	doc := strings.TrimSuffix(string(b), fmt.Sprintf(",\n \"digest\": %q\n}\n", m.Digest)) + "\n}\n"
	if !bytes.Equal(sealed(doc), b) {
		t.Errorf("%s\nis not\n%s", sealed(doc), b)
	}
	if m.Bytes() != 100+90+60+60 || m.Encoders[0].Rows() != 6 || m.Splits[0].Bytes() != 120 || len(m.Files()) != 4 {
		t.Errorf("%d bytes, %d rows, %d, %v", m.Bytes(), m.Encoders[0].Rows(), m.Splits[0].Bytes(), m.Files())
	}
}

// TestManifestStrict has documents whose digest holds.
func TestManifestStrict(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"format":             func(m *Manifest) { m.Format = 0 },
		"file outside":       func(m *Manifest) { m.Splits[0].Files[0].Name = "../x" },
		"absolute file":      func(m *Manifest) { m.Encoders[0].Shards[0].Name = "/etc/passwd" },
		"negative bytes":     func(m *Manifest) { m.Encoders[0].Shards[0].Bytes = -1 },
		"huge bytes":         func(m *Manifest) { m.Encoders[0].Shards[0].Bytes = 1 << 62 },
		"no sum":             func(m *Manifest) { m.Splits[0].Inputs[0].Sum = "" },
		"dimension":          func(m *Manifest) { m.Encoders[0].Dim = 0 },
		"huge dimension":     func(m *Manifest) { m.Encoders[0].Dim = 1 << 30 },
		"dtype":              func(m *Manifest) { m.Encoders[0].DType = "float8" },
		"no dtype":           func(m *Manifest) { m.Encoders[0].DType = "" },
		"format of storage":  func(m *Manifest) { m.Format = 1 },
		"format of dtype":    func(m *Manifest) { m.Format, m.Encoders[0].DType, m.Encoders[0].Shards = 1, Int8, nil },
		"compression":        func(m *Manifest) { m.Encoders[0].Shards[0].Storage = "float32+brotli.1" },
		"storage dtype":      func(m *Manifest) { m.Encoders[0].Shards[0].Storage = "int8" },
		"storage spelling":   func(m *Manifest) { m.Encoders[0].Shards[1].Storage = "float32+zstd.01/500" },
		"record batches":     func(m *Manifest) { m.Encoders[0].Shards[1].Storage = "float32/100000000000" },
		"encoder name":       func(m *Manifest) { m.Encoders[0].Name = "E/1" },
		"shard twice":        func(m *Manifest) { m.Encoders[0].Shards[1].ID = m.Encoders[0].Shards[0].ID },
		"encoder twice":      func(m *Manifest) { m.Encoders = append(m.Encoders, m.Encoders[0]) },
		"split twice":        func(m *Manifest) { m.Splits = append(m.Splits, m.Splits[1]) },
		"kind":               func(m *Manifest) { m.Splits[0].Kind = "triple" },
		"split name":         func(m *Manifest) { m.Splits[0].Name = "" },
		"rows":               func(m *Manifest) { m.Splits[0].Rows = 6 },
		"rows of inputs":     func(m *Manifest) { m.Splits[0].Inputs = nil },
		"no such embeddings": func(m *Manifest) { m.Splits[0].Encoders[0].Folder = "encoders/other" },
	} {
		t.Run(name, func(t *testing.T) {
			m := goodManifest()
			change(m)
			b, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			if !digestHolds(b) {
				t.Fatal("the digest does not hold")
			}
			_, err = ParseManifest(b)
			wantErr(t, err, ErrCorrupt)
		})
	}
	good, _ := goodManifest().encode()
	doc := strings.Split(string(good), ",\n \"digest\"")[0] + "\n}"
	for name, tc := range map[string]struct {
		doc  string
		want error
	}{
		"good":            {doc, nil},
		"unknown field":   {strings.Replace(doc, `"format"`, `"colour": 1, "format"`, 1), ErrCorrupt},
		"other spacing":   {strings.Replace(doc, `"format": 2`, `"format":  2`, 1), ErrCorrupt},
		"a newer version": {strings.Replace(doc, `"format": 2`, `"colour": 1, "format": 3`, 1), ErrForeign},
		"not an object":   {"[1", ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseManifest(sealed(tc.doc)); !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzManifest(f *testing.F) {
	good, err := goodManifest().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// As given, and with a digest that holds: what is accepted must be
		// written the same.
		for _, doc := range [][]byte{b, sealed(string(b))} {
			m, err := ParseManifest(doc)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
					t.Fatalf("error %v", err)
				}
				continue
			}
			if again, err := m.encode(); err != nil || !bytes.Equal(again, doc) {
				t.Fatalf("%s\nbecame\n%s, %v", doc, again, err)
			}
		}
	})
}

// TestManyShards: merging does not grow with the square of the number of
// shards. Ten times the shards take about ten times as long, not a hundred.
func TestManyShards(t *testing.T) {
	merge := func(n int) time.Duration {
		m := goodManifest()
		e := &m.Encoders[0]
		e.Shards = nil
		for i := range n {
			e.Shards = append(e.Shards, Shard{ID: hexSum(fmt.Append(nil, i)), File: File{fmt.Sprintf("%s/%05d", e.Folder, i), 3, 100, strings.Repeat("00", 32)}})
		}
		all := e.Shards
		f := &Fill{byName: map[string]*encoderFill{"e": {Use: Use{Name: "e", Cached: true}, entry: *e}}}
		start := time.Now()
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		v := &view{own: append(all[n/2:n:n], Shard{ID: strings.Repeat("ff", 32), File: File{Rows: 9}})}
		shards, changed := f.mergeEncoder(m, "e", v)
		if !changed || len(shards) != n+1 {
			t.Fatalf("%d shards", len(shards))
		}
		sh, err := newShift(v.own, shards)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		for i := int64(0); i < int64(n/2*3); i += 101 {
			if got := sh.at(i); got != i+int64(n/2*3) {
				t.Fatalf("position %d becomes %d", i, got)
			}
		}
		return took
	}
	few := min(merge(10_000), merge(10_000), merge(10_000))
	if many := min(merge(100_000), merge(100_000)); many > 50*few {
		t.Errorf("100,000 shards take %v, 10,000 %v", many, few)
	}
}

func TestForeignFolders(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  error
	}{
		"nothing":             {nil, nil},
		"hidden files":        {[]string{".gitignore"}, nil},
		"what a fill left":    {[]string{"encoders/e-0/00000-aa.arrow", "tmp/new-1"}, nil},
		"a project":           {[]string{"go.mod", "main.go"}, ErrForeign},
		"another kind of set": {[]string{"encoders/x", "data.parquet"}, ErrForeign},
		"manifests of others": {[]string{"manifests/readme.txt"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tc.files {
				path := filepath.Join(dir, filepath.FromSlash(f))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(t.Context(), Dir(dir), nil)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if err != nil && !strings.Contains(err.Error(), dir) {
				t.Errorf("%q does not name the folder", err)
			}
		})
	}
}

func TestNewerGenerationsAndVersions(t *testing.T) {
	st := store.NewMem()
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 4, 4)}}
	c, _ := mustRun(t, s, st)
	put := func(gen int64, b []byte) {
		if err := store.Put(t.Context(), st, manifestName(gen), b, true); err != nil {
			t.Fatal(err)
		}
	}
	m := *c.Manifest()
	m.Generation = 12
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	put(12, b)
	c, err = Open(t.Context(), st, nil)
	if err != nil || c.Manifest().Generation != 12 {
		t.Fatalf("generation %d, %v", c.Manifest().Generation, err)
	}
	put(13, b) // says 12
	_, err = Open(t.Context(), st, nil)
	wantErr(t, err, ErrCorrupt, manifestName(13))
	put(13, sealed(`{"format": 99, "colour": "blue"}`))
	_, err = Open(t.Context(), st, nil)
	wantErr(t, err, ErrForeign, manifestName(13), "99")
}

func TestSourceNotes(t *testing.T) {
	st := store.NewMem()
	c, _ := mustRun(t, setup{splits: map[string][]encode.Sample{"train": groups("a", 4, 4)}}, st)
	sp := c.Manifest().Splits[0]
	note := SourceNote{Split: "train", Fingerprint: sp.Fingerprint, Facts: map[string]string{"rows": "4"}}
	if err := c.Remember(t.Context(), "k1", note); err != nil {
		t.Fatal(err)
	}
	got, err := c.Recall(t.Context(), "k1")
	if err != nil || got == nil || got.Fingerprint != sp.Fingerprint {
		t.Fatalf("recalled %v, %v", got, err)
	}
	note.Fingerprint = "of a split that is not stored"
	if err := c.Remember(t.Context(), "k2", note); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"damaged": []byte(`{"split": "tr`), "large": bytes.Repeat([]byte("x"), maxNote+1)} {
		if err := store.Put(t.Context(), st, sourcesDir+name+".json", b, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"k2", "damaged", "large", "none"} {
		if got, err := c.Recall(t.Context(), key); err != nil || got != nil {
			t.Errorf("%s: recalled %v, %v", key, got, err)
		}
	}
	notes, err := c.Notes(t.Context())
	if err != nil || len(notes) != 2 || notes[0].Facts["rows"] != "4" {
		t.Errorf("notes %v, %v", notes, err)
	}
}

func TestParseCacheType(t *testing.T) {
	for in, want := range map[string]CacheType{"": Auto, "auto": Auto, "cpu": CPU, "gpu": GPU, "none": None} {
		if got, err := ParseCacheType(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	if _, err := ParseCacheType("CPU"); err == nil {
		t.Error("CPU was accepted")
	}
}
