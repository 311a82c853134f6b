package s3

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// serverEnv names the program versitygw, which the tests run on files in a
// temporary folder; .ci/full.d/s3 builds it. Without it they are skipped.
const serverEnv = "PERMAFROST_TEST_VERSITYGW"

// gateway is the object store of the tests.
var gateway struct {
	url string // empty if there is none
	dir string // a folder a bucket
}

func TestMain(m *testing.M) {
	if job := os.Getenv(jobEnv); job != "" {
		os.Exit(child(job))
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "permafrost-s3")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		for name, value := range map[string]string{
			"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "testersecret", "AWS_REGION": "us-east-1",
			"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": "",
			"XDG_CACHE_HOME": filepath.Join(dir, "user-cache"), "HOME": filepath.Join(dir, "home"),
		} {
			os.Setenv(name, value)
		}
		if program := os.Getenv(serverEnv); program != "" {
			stop, err := serve(program, dir)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer stop()
		}
		return m.Run()
	}())
}

// serve starts the gateway on a free port of this machine.
func serve(program, dir string) (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	gateway.dir = filepath.Join(dir, "buckets")
	sidecar := filepath.Join(dir, "sidecar")
	for _, d := range []string{gateway.dir, sidecar} {
		if err := os.Mkdir(d, 0o777); err != nil {
			return nil, err
		}
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "--port", addr, "--access", "tester", "--secret", "testersecret", "--quiet", "--keep-alive",
		"posix", "--sidecar", sidecar, gateway.dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			gateway.url = "http://" + addr
			return stop, nil
		}
		if time.Now().After(end) {
			stop()
			return nil, fmt.Errorf("%s does not listen: %s", program, log.String())
		}
	}
}

var buckets atomic.Int64

// bucket makes a bucket for a test.
func bucket(t *testing.T) string {
	t.Helper()
	if gateway.url == "" {
		t.Skipf("%s names no server", serverEnv)
	}
	s := mustOpen(t, "s3://unused", testConfig(t, gateway.url))
	name := fmt.Sprintf("b%d-%d", os.Getpid(), buckets.Add(1))
	if err := s.c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func testConfig(t *testing.T, endpoint string) config {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return config{endpoint: u, region: "us-east-1", timeout: time.Minute, dir: t.TempDir(), cacheBytes: 1 << 30}
}

func mustOpen(t *testing.T, place string, c config) *Store {
	t.Helper()
	s, err := open(place, c)
	if err != nil {
		t.Fatal(err)
	}
	s.c.backoff, s.c.slowest = time.Millisecond, 100<<20
	return s
}

// newStore returns a store in a bucket of its own.
func newStore(t *testing.T) *Store {
	return mustOpen(t, "s3://"+bucket(t)+"/some/cache", testConfig(t, gateway.url))
}

// A fault is what happens to a request on its way.
type fault int

const (
	pass     fault = iota
	busy           // it is refused with 503
	reset          // the connection ends without an answer, and without the request's effect
	halfSent       // the connection ends in the middle of the request
	lost           // the request has its effect, and the connection ends without an answer
	late           // it has its effect, and the answer does not come
	cut            // the answer ends in the middle
	flip           // a byte of the answer's body is another
	flipSent       // a byte of the request's body is another
)

func (f fault) String() string {
	return [...]string{"pass", "busy", "reset", "half sent", "lost", "late", "cut", "flip", "flip sent"}[f]
}

// proxy stands before the gateway.
type proxy struct {
	url string
	mu  sync.Mutex
	// plan says what happens to a request; nil lets all pass.
	plan   func(r *http.Request) fault
	counts map[fault]int
}

func newProxy(t *testing.T) *proxy {
	target, err := url.Parse(gateway.url)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{counts: map[fault]int{}}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorLog = nil
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := pass
		p.mu.Lock()
		if p.plan != nil {
			f = p.plan(r)
		}
		p.counts[f]++
		p.mu.Unlock()
		if f == busy {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if f == reset {
			panic(http.ErrAbortHandler)
		}
		if f == halfSent {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			panic(http.ErrAbortHandler)
		}
		if f == flipSent {
			b, _ := io.ReadAll(r.Body)
			if len(b) > 0 {
				b[len(b)/2] ^= 1
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		if f == pass || f == flipSent {
			forward.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		forward.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		switch f {
		case lost:
			panic(http.ErrAbortHandler)
		case late:
			<-r.Context().Done()
			return
		case flip:
			if len(body) > 0 {
				body[len(body)/2] ^= 1
			}
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		if f == cut {
			_, _ = w.Write(body[:len(body)/2])
			if w, ok := w.(http.Flusher); ok {
				w.Flush()
			}
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

// set changes the plan.
func (p *proxy) set(plan func(r *http.Request) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.counts = plan, map[fault]int{}
}

func (p *proxy) count(f fault) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[f]
}

// first makes the first n requests of a method whose path holds a text fail.
func first(n int, f fault, method, path string) func(*http.Request) fault {
	return func(r *http.Request) fault {
		if n > 0 && r.Method == method && strings.Contains(r.URL.Path, path) {
			n--
			return f
		}
		return pass
	}
}
