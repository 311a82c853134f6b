// Package hubtest is a model hub on a local port that misbehaves on demand:
// it cuts answers in the middle, ignores ranges, changes its mind about the
// content, redirects, asks to wait. It counts the bytes that it sent.
package hubtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lfsFrom is the size from which files are kept as the public hub keeps
// large ones: listed by SHA-256, and served by another host.
const lfsFrom = 1 << 16

// Fault is how answers for one file go wrong; each field is for itself.
type Fault struct {
	// Status are the codes of the first answers, in place of the content.
	Status []int
	// RetryAfter is the header of answers with a Status.
	RetryAfter string
	// ErrorCode is the X-Error-Code of answers with a Status.
	ErrorCode string
	// Cut are the numbers of bytes after which the first answers with content
	// are cut off.
	Cut []int64
	// Hold stops the first answer after so many bytes until Release or until
	// the client goes away. Default: 0, not.
	Hold int64
	// NoRange answers requests for a part with the whole. Default: false.
	NoRange bool
	// NoIfRange answers them with the part, whatever its ETag is. Default:
	// false.
	NoIfRange bool
	// NoETag sends none. Default: false.
	NoETag bool
	// Wrong is content of the same size to send instead. Default: none.
	Wrong []byte
	// Swap is a number of answers with content after which the content, and
	// the ETag, are Wrong's no more. Default: 0, never.
	Swap int
	// Chunk and Pause slow an answer down. Default: 0, not.
	Chunk int
	Pause time.Duration
}

// Request is one that came.
type Request struct {
	Host          string // "hub", or "cdn" for the host that files are redirected to
	Path          string
	Range         string
	IfRange       string
	Authorization string
	Encoding      string // Accept-Encoding
	Status        int
	Sent          int64 // bytes of the body
}

// Hub is a running hub. Its methods are safe for concurrent use.
type Hub struct {
	URL string // of the hub
	CDN string // of the host that has its large files

	hub, cdn *httptest.Server

	mu       sync.Mutex
	repos    map[string]*repo
	faults   map[string]*Fault
	answers  map[string]int // with content, by file
	statuses map[string]int // of Fault.Status, by file
	requests []*Request
	token    string
	release  chan struct{}
}

type repo struct {
	commit string
	files  map[string][]byte
}

// New starts a hub, which must be closed.
func New() *Hub {
	h := &Hub{repos: map[string]*repo{}, faults: map[string]*Fault{}, answers: map[string]int{}, statuses: map[string]int{}, release: make(chan struct{})}
	h.hub = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve("hub", w, r) }))
	h.cdn = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve("cdn", w, r) }))
	h.URL, h.CDN = h.hub.URL, h.cdn.URL
	return h
}

// Close stops the hub and cuts what is under way.
func (h *Hub) Close() {
	h.Release()
	for _, s := range []*httptest.Server{h.hub, h.cdn} {
		s.CloseClientConnections()
		s.Close()
	}
}

// Repo makes, or replaces, a repository whose branch main is at a commit
// that depends on the files alone, and returns the commit.
func (h *Hub) Repo(name string, files map[string][]byte) string {
	sum := sha1.New()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s %s\n", file, gitSHA1(files[file]))
	}
	r := &repo{commit: hex.EncodeToString(sum.Sum(nil)), files: files}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repos[name] = r
	return r.commit
}

// Token makes the hub ask for a token. "" asks for none.
func (h *Hub) Token(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token = token
}

// Fault sets what goes wrong with a file; "api" is the description of a
// repository.
func (h *Hub) Fault(file string, f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[file] = &f
	h.answers[file], h.statuses[file] = 0, 0
}

// Release lets answers that are held go on.
func (h *Hub) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.release)
	h.release = make(chan struct{})
}

// Requests returns those that came since the last call.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Request, len(h.requests))
	for i, r := range h.requests {
		out[i] = *r
	}
	h.requests = nil
	return out
}

// Sent sums the bytes of answers with content for a file, or for all files
// if it is "".
func Sent(requests []Request, file string) (n int64) {
	for _, r := range requests {
		if strings.Contains(r.Path, "/resolve/") && strings.HasSuffix(r.Path, "/"+file) || strings.Contains(r.Path, "/resolve/") && file == "" {
			n += r.Sent
		}
	}
	return n
}

func (h *Hub) serve(host string, w http.ResponseWriter, r *http.Request) {
	req := &Request{
		Host: host, Path: r.URL.Path, Range: r.Header.Get("Range"), IfRange: r.Header.Get("If-Range"),
		Authorization: r.Header.Get("Authorization"), Encoding: r.Header.Get("Accept-Encoding"), Status: http.StatusOK,
	}
	h.mu.Lock()
	h.requests = append(h.requests, req)
	token := h.token
	h.mu.Unlock()
	a := &answer{h: h, ResponseWriter: w, req: req}
	if host == "hub" && token != "" && req.Authorization != "Bearer "+token {
		a.Header().Set("X-Error-Code", "GatedRepo")
		a.fail(http.StatusUnauthorized)
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/models/"); ok {
		h.api(a, rest)
		return
	}
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	commit, file, ok2 := strings.Cut(rest, "/")
	h.mu.Lock()
	repo := h.repos[name]
	h.mu.Unlock()
	if !ok || !ok2 || repo == nil || commit != repo.commit && commit != "main" {
		a.fail(http.StatusNotFound)
		return
	}
	content, ok := repo.files[file]
	if !ok {
		a.Header().Set("X-Error-Code", "EntryNotFound")
		a.fail(http.StatusNotFound)
		return
	}
	a.Header().Set("X-Repo-Commit", repo.commit)
	if len(content) >= lfsFrom && host == "hub" {
		a.Header().Set("X-Linked-Etag", etag(content))
		a.Header().Set("X-Linked-Size", strconv.Itoa(len(content)))
		a.Header().Set("Location", h.CDN+r.URL.EscapedPath())
		a.fail(http.StatusFound)
		return
	}
	h.file(a, r, file, content)
}

// api describes a repository as the public hub does.
func (h *Hub) api(a *answer, rest string) {
	name, revision, _ := strings.Cut(rest, "/revision/")
	h.mu.Lock()
	repo := h.repos[name]
	fault, status := h.next("api")
	h.mu.Unlock()
	if status != 0 {
		a.refuse(fault, status)
		return
	}
	revision, _ = url.PathUnescape(revision)
	switch {
	case repo == nil:
		a.Header().Set("X-Error-Code", "RepoNotFound")
		a.fail(http.StatusNotFound)
		return
	case revision != "" && revision != "main" && revision != repo.commit:
		a.Header().Set("X-Error-Code", "RevisionNotFound")
		a.fail(http.StatusNotFound)
		return
	}
	type lfs struct {
		SHA256      string `json:"sha256"`
		Size        int    `json:"size"`
		PointerSize int    `json:"pointerSize"`
	}
	type sibling struct {
		Name string `json:"rfilename"`
		Size int    `json:"size"`
		Blob string `json:"blobId"`
		LFS  *lfs   `json:"lfs,omitempty"`
	}
	doc := struct {
		ID       string    `json:"id"`
		SHA      string    `json:"sha"`
		Siblings []sibling `json:"siblings"`
	}{name, repo.commit, nil}
	for file, content := range repo.files {
		s := sibling{Name: file, Size: len(content), Blob: gitSHA1(content)}
		if len(content) >= lfsFrom {
			s.Blob, s.LFS = gitSHA1([]byte("a pointer to "+file)), &lfs{strings.Trim(etag(content), `"`), len(content), 134}
		}
		doc.Siblings = append(doc.Siblings, s)
	}
	a.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(a).Encode(doc)
}

// next counts a request and returns its fault, and the status that it asks
// for, 0 if none is left.
func (h *Hub) next(file string) (Fault, int) {
	f := h.faults[file]
	if f == nil {
		return Fault{}, 0
	}
	if n := h.statuses[file]; n < len(f.Status) {
		h.statuses[file]++
		return *f, f.Status[n]
	}
	return *f, 0
}

func (h *Hub) file(a *answer, r *http.Request, file string, content []byte) {
	h.mu.Lock()
	fault, status := h.next(file)
	release := h.release
	n := h.answers[file]
	if status == 0 {
		h.answers[file]++
	}
	h.mu.Unlock()
	if status != 0 {
		a.refuse(fault, status)
		return
	}
	if fault.Wrong != nil && (fault.Swap == 0 || n < fault.Swap) {
		content = fault.Wrong
	}
	tag := etag(content)
	if !fault.NoETag {
		a.Header().Set("ETag", tag)
	}
	a.Header().Set("Accept-Ranges", "bytes")
	body := content
	from, ok := strings.CutPrefix(a.req.Range, "bytes=")
	if first, err := strconv.Atoi(strings.TrimSuffix(from, "-")); ok && err == nil && !fault.NoRange && (a.req.IfRange == "" || a.req.IfRange == tag || fault.NoIfRange) {
		if first >= len(content) {
			a.fail(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		body = content[first:]
		a.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content)))
		a.req.Status = http.StatusPartialContent
	}
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.WriteHeader(a.req.Status)
	if r.Method == http.MethodHead {
		return
	}
	if fault.Hold > 0 && n == 0 {
		a.send(body[:fault.Hold])
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		body = body[fault.Hold:]
	}
	cut := n < len(fault.Cut)
	if cut {
		body = body[:min(int64(len(body)), fault.Cut[n])]
	}
	for chunk := fault.Chunk; chunk > 0 && len(body) > chunk; body = body[chunk:] {
		a.send(body[:chunk])
		select {
		case <-time.After(fault.Pause):
		case <-r.Context().Done():
			return
		}
	}
	a.send(body)
	if cut {
		a.hangUp()
	}
}

// answer counts what is sent.
type answer struct {
	http.ResponseWriter
	h   *Hub
	req *Request
}

func (a *answer) Write(b []byte) (int, error) {
	n, err := a.ResponseWriter.Write(b)
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	a.req.Sent += int64(n)
	return n, err
}

func (a *answer) send(b []byte) {
	_, _ = a.Write(b)
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

func (a *answer) fail(status int) {
	a.h.mu.Lock()
	a.req.Status = status
	a.h.mu.Unlock()
	a.WriteHeader(status)
	_, _ = io.WriteString(a.ResponseWriter, http.StatusText(status))
}

func (a *answer) refuse(f Fault, status int) {
	if f.RetryAfter != "" {
		a.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.ErrorCode != "" {
		a.Header().Set("X-Error-Code", f.ErrorCode)
	}
	a.fail(status)
}

// hangUp cuts the connection after what was sent.
func (a *answer) hangUp() {
	conn, _, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // which cuts it too
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = conn.Close()
}

// etag is the hash by which the public hub names content.
func etag(content []byte) string {
	if len(content) < lfsFrom {
		return `"` + gitSHA1(content) + `"`
	}
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func gitSHA1(content []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}
