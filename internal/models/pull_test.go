package models

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/models/hubtest"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

const (
	repo      = "org/tiny"
	weights   = 3 << 20
	weightsAt = "model.safetensors"
)

// newHubTest starts a hub with one model, and a store.
func newHubTest(t *testing.T) (*hubtest.Hub, *Store, map[string][]byte) {
	t.Helper()
	h := hubtest.New()
	t.Cleanup(h.Close)
	files := hubtest.Model(1, weights)
	h.Repo(repo, files)
	return h, newStore(t), files
}

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := New(filepath.Join(t.TempDir(), "models"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pullFrom(h *hubtest.Hub) PullOptions {
	return PullOptions{Endpoint: h.URL, Backoff: time.Millisecond, Connections: 2}
}

// wantModel checks that a model has exactly these files, sound, and nothing
// temporary beside it.
func wantModel(t *testing.T, s *Store, name string, files map[string][]byte, want ...string) {
	t.Helper()
	m, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	damaged, extra, err := Verify(t.Context(), m, nil)
	if err != nil || len(damaged) > 0 || len(extra) > 0 {
		t.Errorf("damaged %v, extra %v, error %v", damaged, extra, err)
	}
	var got []string
	for _, f := range m.Files {
		got = append(got, f.Path)
		b, err := os.ReadFile(filepath.Join(m.Dir, filepath.FromSlash(f.Path)))
		if err != nil || !bytes.Equal(b, files[f.Path]) {
			t.Errorf("%s differs from its source (%v)", f.Path, err)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files\n%q, want\n%q", got, want)
	}
	wantClean(t, s)
}

// wantClean checks that the temporary folder holds locks alone.
func wantClean(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.tmp(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			t.Errorf("%s was left", e.Name())
		}
	}
}

// The files that a pull takes of hubtest.Model.
var pulled = []string{
	"1_Pooling/config.json", "README.md", "config.json", "empty.txt", "model.safetensors", "modules.json",
	"sentence_bert_config.json", "tokenizer.json", "vocab.txt",
}

func TestPull(t *testing.T) {
	h, s, files := newHubTest(t)
	o := pullFrom(h)
	var last atomic.Int64
	o.OnProgress = func(done, _ int64) { last.Store(max(last.Load(), done)) }
	r, err := s.Pull(t.Context(), repo, o)
	if err != nil {
		t.Fatal(err)
	}
	wantModel(t, s, repo, files, pulled...)
	if r.Status != Installed || r.License != "apache-2.0" || r.Source.Repo != repo || r.Source.Revision != "main" || len(r.Source.Commit) != 40 {
		t.Errorf("result %+v", r)
	}
	if want := (Card{Architecture: "BertModel", ModelType: "bert", Dim: 32, MaxLength: 128, Formats: []string{"safetensors"}}); r.Card.Dim != want.Dim ||
		r.Card.Architecture != want.Architecture || r.Card.ModelType != want.ModelType || r.Card.MaxLength != want.MaxLength || !slices.Equal(r.Card.Formats, want.Formats) {
		t.Errorf("card %+v, want %+v", r.Card, want)
	}
	requests := h.Requests()
	if sent := hubtest.Sent(requests, ""); sent != r.Bytes() || r.Downloaded != sent || last.Load() != sent {
		t.Errorf("the hub sent %d bytes, %d counted, %d of progress, the model has %d", sent, r.Downloaded, last.Load(), r.Bytes())
	}
	for _, r := range requests {
		if r.Encoding != "identity" { // or a proxy may compress what is hashed
			t.Errorf("%s was asked for with the encoding %q", r.Path, r.Encoding)
		}
	}
	if data, err := os.ReadFile(filepath.Join(r.Dir, ManifestName)); err != nil || strings.Contains(string(data), s.Dir()) {
		t.Errorf("the manifest names the folder of the machine: %s (%v)", data, err)
	}
	if !slices.Contains(r.Omitted, Omitted{"pytorch_model.bin", whyPickle}) || !slices.Contains(r.Omitted, Omitted{"onnx/model.onnx", whyWeights}) {
		t.Errorf("omitted %v", r.Omitted)
	}

	// Once more: nothing is sent.
	r, err = s.Pull(t.Context(), repo, o)
	if err != nil || r.Status != Unchanged || hubtest.Sent(h.Requests(), "") != 0 {
		t.Errorf("again: %v, %+v", err, r)
	}

	// More of the same commit adds to it, and sends no more than that.
	o.ONNX = true
	r, err = s.Pull(t.Context(), repo, o)
	if err != nil || r.Status != Extended {
		t.Fatalf("with ONNX: %v, %+v", err, r)
	}
	if sent := hubtest.Sent(h.Requests(), ""); sent != int64(len(files["onnx/model.onnx"])) {
		t.Errorf("the hub sent %d bytes", sent)
	}
	wantModel(t, s, repo, files, append(slices.Clone(pulled), "onnx/model.onnx")...)

	// A damaged file is replaced, alone.
	damage(t, filepath.Join(s.Path(repo), "vocab.txt"))
	o.ONNX = false
	r, err = s.Pull(t.Context(), repo, o)
	if err != nil || r.Status != Repaired || hubtest.Sent(h.Requests(), "") != int64(len(files["vocab.txt"])) {
		t.Errorf("damaged: %v, %+v", err, r)
	}
	wantModel(t, s, repo, files, append(slices.Clone(pulled), "onnx/model.onnx")...)
}

// damage inverts a byte in the middle of a file.
func damage(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := errors.Join(os.Remove(name), os.WriteFile(name, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestPullAnotherCommit(t *testing.T) {
	h, s, files := newHubTest(t)
	if _, err := s.Pull(t.Context(), repo, pullFrom(h)); err != nil {
		t.Fatal(err)
	}
	files2 := hubtest.Model(1, weights)
	files2["vocab.txt"] = []byte("[PAD]\n[UNK]\nmore\n")
	commit := h.Repo(repo, files2)
	h.Requests()
	_, err := s.Pull(t.Context(), repo, pullFrom(h))
	if !errors.Is(err, ErrExists) || hubtest.Sent(h.Requests(), "") != 0 {
		t.Fatalf("want ErrExists before anything is downloaded, not %v", err)
	}
	wantModel(t, s, repo, files, pulled...)
	o := pullFrom(h)
	o.Force, o.Revision = true, commit
	r, err := s.Pull(t.Context(), repo, o)
	if err != nil || r.Status != Replaced {
		t.Fatalf("%v, %+v", err, r)
	}
	if sent := hubtest.Sent(h.Requests(), ""); sent != int64(len(files2["vocab.txt"])) {
		t.Errorf("the hub sent %d bytes for one changed file", sent)
	}
	wantModel(t, s, repo, files2, pulled...)
	o = pullFrom(h)
	o.Name = "other"
	if _, err := s.Pull(t.Context(), repo, o); err != nil {
		t.Error(err)
	}
	wantModel(t, s, "other", files2, pulled...)
}

func TestPullFaults(t *testing.T) {
	all := func(files map[string][]byte) (n int64) {
		for _, f := range pulled {
			n += int64(len(files[f]))
		}
		return n
	}
	tests := []struct {
		name  string
		file  string
		fault hubtest.Fault
		err   error
		// more is what the hub sends beyond each byte once, -1 if that depends
		// on when it sees that nobody listens.
		more int64
	}{
		{"cut three times", weightsAt, hubtest.Fault{Cut: []int64{1000, 1 << 20, 70_000}}, nil, 0},
		{"cut before the first byte", weightsAt, hubtest.Fault{Cut: []int64{0, 0}}, nil, 0},
		{"cut a small file", "tokenizer.json", hubtest.Fault{Cut: []int64{10}}, nil, 0},
		{"cut, without an ETag", weightsAt, hubtest.Fault{Cut: []int64{1 << 20}, NoETag: true}, nil, 0},
		{"cut more often than bytes come", weightsAt, hubtest.Fault{Cut: []int64{10, 10, 10, 10, 10, 10, 10}}, ErrHub, 0},
		{"cut often, with progress", weightsAt, hubtest.Fault{Cut: []int64{0, 0, 0, 1 << 20, 0, 0, 0, 0, 1 << 20, 0, 0}}, nil, 0},
		{"cut, no ranges", weightsAt, hubtest.Fault{Cut: []int64{1 << 20}, NoRange: true}, nil, 1 << 20},
		{"other content meanwhile", weightsAt, hubtest.Fault{Cut: []int64{1 << 20}, Wrong: make([]byte, weights), Swap: 1}, nil, 1 << 20},
		{"a part of other content", weightsAt, hubtest.Fault{Cut: []int64{1 << 20}, Wrong: make([]byte, weights), Swap: 1, NoIfRange: true}, nil, -1},
		{"wrong bytes", weightsAt, hubtest.Fault{Wrong: make([]byte, weights)}, ErrChecksum, 0},
		{"wrong bytes of a small file", "vocab.txt", hubtest.Fault{Wrong: []byte("[PAD]\n[unk]\n")}, ErrChecksum, 0},
		{"too few bytes", "vocab.txt", hubtest.Fault{Wrong: []byte("[PAD]")}, ErrChecksum, 0},
		{"too many bytes", "vocab.txt", hubtest.Fault{Wrong: make([]byte, 1000)}, ErrChecksum, 0},
		{"busy", weightsAt, hubtest.Fault{Status: []int{429, 503, 500}, RetryAfter: "0"}, nil, 0},
		{"busy for too long", weightsAt, hubtest.Fault{Status: []int{429}, RetryAfter: "3600"}, ErrHub, 0},
		{"always busy", weightsAt, hubtest.Fault{Status: slices.Repeat([]int{503}, 20)}, ErrHub, 0},
		{"the API is busy", "api", hubtest.Fault{Status: []int{502, 504}}, nil, 0},
		{"gone", "vocab.txt", hubtest.Fault{Status: []int{404}}, ErrHub, 0},
		{"forbidden", "vocab.txt", hubtest.Fault{Status: []int{403}}, ErrAccess, 0},
		{"gated", "vocab.txt", hubtest.Fault{Status: []int{403}, ErrorCode: "GatedRepo"}, ErrAccess, 0},
		{"slow", "tokenizer.json", hubtest.Fault{Chunk: 20_000, Pause: 20 * time.Millisecond}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, s, files := newHubTest(t)
			h.Fault(tt.file, tt.fault)
			o := pullFrom(h)
			o.Connections = 1 // so that a failure leaves no other request under way
			_, err := s.Pull(t.Context(), repo, o)
			requests := h.Requests()
			if tt.err == nil {
				if err != nil {
					t.Fatal(err)
				}
				wantModel(t, s, repo, files, pulled...)
				if sent, want := hubtest.Sent(requests, ""), all(files)+tt.more; sent != want && tt.more >= 0 {
					t.Errorf("the hub sent %d bytes, want %d", sent, want)
				}
				return
			}
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if _, err := s.Open(t.Context(), repo); !errors.Is(err, ErrNotFound) {
				t.Errorf("a model is there: %v", err)
			}
			// Once the hub is well again, the rest comes.
			h.Fault(tt.file, hubtest.Fault{})
			r, err := s.Pull(t.Context(), repo, o)
			if err != nil {
				t.Fatal(err)
			}
			wantModel(t, s, repo, files, pulled...)
			if sent := hubtest.Sent(h.Requests(), ""); sent+r.Resumed != all(files) || tt.name == "gone" && r.Resumed == 0 {
				t.Errorf("the hub sent %d bytes, %d were there, the model has %d", sent, r.Resumed, all(files))
			}
		})
	}
}

// A pull goes on where another one, of a process that was stopped, was: the
// hub sends no byte twice.
func TestPullResumes(t *testing.T) {
	h, s, files := newHubTest(t)
	const held = 2<<20 + 12345
	h.Fault(weightsAt, hubtest.Fault{Hold: held})
	ctx, cancel := context.WithCancel(t.Context())
	o := pullFrom(h)
	var stopping atomic.Bool
	o.OnProgress = func(_, _ int64) {
		found, _ := filepath.Glob(filepath.Join(s.tmp("*"), weightsAt+partialSuffix))
		if len(found) == 1 && stopping.CompareAndSwap(false, true) {
			go func() {
				defer cancel()
				for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
					if info, err := os.Stat(found[0]); err == nil && info.Size() == held {
						return
					}
				}
			}()
		}
	}
	if _, err := s.Pull(ctx, repo, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	partials, err := s.Partials()
	if err != nil || len(partials) != 1 || partials[0].Name != repo || partials[0].Bytes < held {
		t.Fatalf("partials %+v, %v", partials, err)
	}
	h.Requests()
	r, err := s.Pull(t.Context(), repo, pullFrom(h))
	if err != nil {
		t.Fatal(err)
	}
	requests := h.Requests()
	if sent := hubtest.Sent(requests, weightsAt); sent != weights-held {
		t.Errorf("the hub sent %d bytes of the weights, want %d", sent, weights-held)
	}
	i := slices.IndexFunc(requests, func(r hubtest.Request) bool { return r.Host == "cdn" && strings.HasSuffix(r.Path, weightsAt) })
	if requests[i].Status != http.StatusPartialContent || requests[i].IfRange == "" {
		t.Errorf("the weights were asked for by %+v", requests[i])
	}
	if r.Resumed < held || r.Resumed+r.Downloaded != r.Bytes() {
		t.Errorf("%d resumed, %d downloaded of %d", r.Resumed, r.Downloaded, r.Bytes())
	}
	wantModel(t, s, repo, files, pulled...)
}

// What an earlier pull left may be damaged: the hash decides, and the wrong
// bytes are not kept.
func TestPullDamagedPartial(t *testing.T) {
	h, s, files := newHubTest(t)
	h.Fault(weightsAt, hubtest.Fault{Cut: slices.Repeat([]int64{1 << 18}, 30)})
	o := pullFrom(h)
	o.Retries = -1
	if _, err := s.Pull(t.Context(), repo, o); err == nil {
		t.Fatal("no error")
	}
	found, _ := filepath.Glob(filepath.Join(s.tmp("*"), weightsAt+partialSuffix))
	if len(found) != 1 {
		t.Fatalf("partials %q", found)
	}
	damage(t, found[0])
	h.Fault(weightsAt, hubtest.Fault{})
	if _, err := s.Pull(t.Context(), repo, pullFrom(h)); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), weightsAt) {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(found[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the wrong bytes are still there: %v", err)
	}
	if _, err := s.Pull(t.Context(), repo, pullFrom(h)); err != nil {
		t.Fatal(err)
	}
	wantModel(t, s, repo, files, pulled...)
}

// The token goes to the hub, and to no other place that it redirects to.
func TestPullToken(t *testing.T) {
	h, s, files := newHubTest(t)
	h.Token("secret")
	_, err := s.Pull(t.Context(), repo, pullFrom(h))
	if !errors.Is(err, ErrAccess) || !strings.Contains(err.Error(), "HF_TOKEN") {
		t.Fatalf("error %v", err)
	}
	h.Requests()
	o := pullFrom(h)
	o.Token = "secret"
	if _, err := s.Pull(t.Context(), repo, o); err != nil {
		t.Fatal(err)
	}
	wantModel(t, s, repo, files, pulled...)
	redirected := 0
	for _, r := range h.Requests() {
		switch {
		case r.Host == "hub" && r.Authorization != "Bearer secret":
			t.Errorf("the hub was asked for %s with %q", r.Path, r.Authorization)
		case r.Host == "cdn" && r.Authorization != "":
			t.Errorf("another host was given %q", r.Authorization)
		case r.Host == "cdn":
			redirected++
		}
	}
	if redirected == 0 {
		t.Error("nothing was redirected")
	}
}

// What is asked for over TLS does not leave it.
func TestRedirectKeepsTLS(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{{"https://a", "https://b", true}, {"http://a", "http://b", true}, {"http://a", "https://b", true}, {"https://a", "http://a", false}} {
		from, err := http.NewRequest(http.MethodGet, tt.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := http.NewRequest(http.MethodGet, tt.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRedirect(to, []*http.Request{from}); (err == nil) != tt.ok {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
	}
	// Through the client, which does not try again.
	tls := httptest.NewTLSServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer tls.Close()
	h, err := newHub(PullOptions{Endpoint: tls.URL}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	h.client.Transport = tls.Client().Transport
	if _, err := h.info(t.Context(), repo, "main"); !errors.Is(err, errRedirect) || !errors.Is(err, ErrHub) {
		t.Errorf("error %v", err)
	}
}

// A stop at any operation on the store's folders leaves the model that was
// there, or the new one; the next pull downloads nothing that was there.
func TestPullStoreFaults(t *testing.T) {
	t.Parallel()
	h := hubtest.New()
	defer h.Close()
	small := hubtest.Model(1, 70_000)
	newer := hubtest.Model(2, 70_000)
	for _, replace := range []bool{false, true} {
		for step, failed := 1, true; failed; step++ {
			s := newStore(t)
			o := pullFrom(h)
			o.Force = true
			if replace {
				h.Repo(repo, small)
				if _, err := s.Pull(t.Context(), repo, o); err != nil {
					t.Fatal(err)
				}
			}
			h.Repo(repo, newer)
			fsys := &storetest.FS{FS: unsynced{}, FailAt: step, Err: syscall.EIO}
			s.fsys = fsys
			_, err := s.Pull(t.Context(), repo, o)
			if failed = len(fsys.Failed()) > 0; failed && !errors.Is(err, syscall.EIO) && (err != nil || fsys.Failed()[0] != "close") {
				t.Fatalf("step %d (%v): error %v", step, fsys.Failed(), err)
			}
			if n := fsys.OpenFiles(); n != 0 {
				t.Fatalf("step %d: %d files are open", step, n)
			}
			s.fsys = unsynced{}
			m, err := s.Open(t.Context(), repo)
			switch {
			case errors.Is(err, ErrNotFound) && !replace:
			case err != nil:
				t.Fatalf("step %d (%v): %v", step, fsys.Failed(), err)
			default:
				if damaged, extra, err := Verify(t.Context(), m, nil); err != nil || len(damaged) > 0 || len(extra) > 0 {
					t.Fatalf("step %d: %v, %v, %v", step, damaged, extra, err)
				}
			}
			sent := hubtest.Sent(h.Requests(), "")
			r, err := s.Pull(t.Context(), repo, o)
			if err != nil {
				t.Fatalf("step %d (%v): the next pull: %v", step, fsys.Failed(), err)
			}
			again := hubtest.Sent(h.Requests(), "")
			if sent > r.Bytes() && again > 0 || again > 0 && again != r.Bytes() && !replace {
				t.Errorf("step %d (%v): %d bytes were sent, and %d again", step, fsys.Failed(), sent, again)
			}
			wantModel(t, s, repo, newer, pulled...)
		}
	}
}

func TestPullStalls(t *testing.T) {
	h, s, files := newHubTest(t)
	h.Fault(weightsAt, hubtest.Fault{Hold: 1 << 20})
	o := pullFrom(h)
	o.IdleTimeout = 300 * time.Millisecond
	if _, err := s.Pull(t.Context(), repo, o); err != nil {
		t.Fatal(err)
	}
	wantModel(t, s, repo, files, pulled...)
	if sent := hubtest.Sent(h.Requests(), weightsAt); sent != weights {
		t.Errorf("the hub sent %d bytes of %d", sent, weights)
	}
}

func TestPullWrongReferences(t *testing.T) {
	h, s, _ := newHubTest(t)
	for _, tt := range []struct {
		repo, revision, endpoint string
		err                      error
		says                     string
	}{
		{"org/none", "", h.URL, ErrHub, "org/none"},
		{repo, "v9", h.URL, ErrHub, "org/tiny@v9"},
		{"org/../tiny", "", h.URL, ErrName, "org/../tiny"},
		{"a/b/c", "", h.URL, ErrName, ""},
		{"https://example.com/org/tiny", "", h.URL, ErrName, "ORG/NAME"},
		{repo, "", "ftp://example.com", ErrHub, "ftp://"},
		{repo, "", "example.com", ErrHub, "http(s)://"},
	} {
		_, err := s.Pull(t.Context(), tt.repo, PullOptions{Endpoint: tt.endpoint, Revision: tt.revision, Backoff: time.Millisecond})
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s@%s from %s: error %v, want %v", tt.repo, tt.revision, tt.endpoint, err, tt.err)
		}
	}
	if entries, err := s.List(t.Context()); err != nil || len(entries) > 0 {
		t.Errorf("models %v, %v", entries, err)
	}
}

// A hub whose answers lie is an error, and nothing of it is written outside
// the model's folder.
func TestPullHostileHub(t *testing.T) {
	const commit = "0123456789012345678901234567890123456789"
	file := func(name, rest string) string {
		return `{"sha": "` + commit + `", "siblings": [{"rfilename": "config.json", "size": 2, "blobId": "` + commit + `"}, {"rfilename": "` + name + `", ` + rest + `}]}`
	}
	for name, answer := range map[string]string{
		"no JSON":         `<html>`,
		"empty":           `{}`,
		"no files":        `{"sha": "` + commit + `", "siblings": []}`,
		"bad commit":      `{"sha": "../../x", "siblings": []}`,
		"path out of it":  file("../model.safetensors", `"size": 3, "blobId": "`+commit+`"`),
		"absolute path":   file("/etc/model.safetensors", `"size": 3, "blobId": "`+commit+`"`),
		"backslashes":     file(`..\\model.safetensors`, `"size": 3, "blobId": "`+commit+`"`),
		"no hash":         file("model.safetensors", `"size": 3`),
		"no size":         file("model.safetensors", `"blobId": "`+commit+`"`),
		"negative size":   file("model.safetensors", `"size": -3, "blobId": "`+commit+`"`),
		"size of no disk": file("model.safetensors", `"size": 9223372036854775807, "blobId": "`+commit+`"`),
		"bad hash":        file("model.safetensors", `"size": 3, "lfs": {"sha256": "../", "size": 3}`),
		"twice":           file("config.json", `"size": 2, "blobId": "`+commit+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, answer)
			s := newStore(t)
			_, err := s.Pull(t.Context(), repo, PullOptions{Endpoint: srv, Backoff: time.Millisecond, Retries: 1})
			if err == nil {
				t.Fatal("no error")
			}
			if name == "size of no disk" && !errors.Is(err, ErrHub) && !noRoom(err) {
				t.Errorf("error %v", err)
			}
			for at := range walk(t, filepath.Dir(s.Dir())) {
				if !strings.HasPrefix(at, filepath.Join("models", tmpDir)+string(filepath.Separator)) {
					t.Errorf("%s was written", at)
				}
			}
		})
	}
}

// Another process at work on the model is told from other errors.
func TestLocked(t *testing.T) {
	h, s, _ := newHubTest(t)
	unlock, err := s.lock(repo)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), repo, pullFrom(h))
	if !errors.Is(err, ErrLocked) {
		t.Errorf("pull: %v", err)
	}
	if _, err := s.Remove(t.Context(), repo, false); !errors.Is(err, ErrLocked) {
		t.Errorf("remove: %v", err)
	}
	o := pullFrom(h)
	o.Name = "other"
	if _, err := s.Pull(t.Context(), repo, o); err != nil {
		t.Errorf("another name: %v", err)
	}
	unlock()
	if _, err := s.Pull(t.Context(), repo, pullFrom(h)); err != nil {
		t.Error(err)
	}
}
