// Package qdranttest is a Qdrant server for tests: as much of its HTTP API as
// an upload needs, in memory, strict about requests, and failing on demand.
package qdranttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what befalls a request.
type Fault int

// The faults. Lost ones take effect, and the answer does not arrive.
const (
	None        Fault = iota
	Unavailable       // 503
	Busy              // 429, with Retry-After: 1
	Reset             // the connection ends before the answer
	LostReset         // and the request has taken effect
	LostTimeout       // no answer comes in time, though the request has taken effect
	NotYet            // the points are accepted, but not stored in time
	Garbage           // 200 with an answer that is cut
)

// Point is a stored point.
type Point struct {
	Vector  []float32
	Payload map[string]any
}

// Request is what a client sent.
type Request struct {
	Method string          `json:"method"`
	Path   string          `json:"path"` // with the query
	Body   json.RawMessage `json:"body,omitempty"`
}

// Server is a running server with at most one collection.
type Server struct {
	URL string
	// Key is the key that requests must have, if any.
	Key string

	mu         sync.Mutex
	fault      func(n int, r Request) Fault
	requests   []Request
	collection string
	size       int
	distance   string
	points     map[string]Point
	upserts    []int // points in each
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// Fail has fn say what befalls request n, from 0; it is called for one request
// at a time. A nil fn is no faults any more.
func (s *Server) Fail(fn func(n int, r Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fn
}

// Points returns what is stored, by id.
func (s *Server) Points() map[string]Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.points)
}

// Upserts returns how many points each upsert that took effect had.
func (s *Server) Upserts() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.upserts)
}

// Requests returns all requests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Make makes a collection, as somebody else does.
func (s *Server) Make(name string, size int, distance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collection, s.size, s.distance, s.points = name, size, distance, map[string]Point{}
}

// Drop deletes the collection, as somebody else does.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collection, s.points, s.upserts = "", nil, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	s.mu.Lock()
	req := Request{r.Method, r.URL.RequestURI(), body}
	s.requests = append(s.requests, req)
	fault := None
	if s.fault != nil {
		fault = s.fault(len(s.requests)-1, req)
	}
	status, result := 0, any(nil)
	switch fault {
	case Unavailable, Reset:
	case Busy:
	case NotYet:
		status, result = http.StatusOK, map[string]any{"status": "wait_timeout"}
	default:
		status, result = s.handle(req, r)
	}
	s.mu.Unlock()
	switch fault {
	case Unavailable:
		status, result = http.StatusServiceUnavailable, "out of service"
	case Busy:
		w.Header().Set("Retry-After", "1")
		status, result = http.StatusTooManyRequests, "too many requests"
	case Reset, LostReset:
		panic(http.ErrAbortHandler)
	case LostTimeout:
		select {
		case <-r.Context().Done():
		case <-time.After(30 * time.Second):
		}
		return
	case Garbage:
		fmt.Fprint(w, `{"result":{"stat`)
		return
	}
	answer := map[string]any{"time": 0.001, "status": "ok", "result": result}
	if status != http.StatusOK {
		answer = map[string]any{"time": 0.001, "status": map[string]any{"error": result}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// handle answers a request.
func (s *Server) handle(req Request, r *http.Request) (int, any) {
	if s.Key != "" && r.Header.Get("api-key") != s.Key {
		return http.StatusUnauthorized, "Must provide an API key or an Authorization bearer token"
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/collections/"), "/")
	there := s.collection != "" && name == s.collection
	bad := func(err error) (int, any) { return http.StatusBadRequest, "Format error in JSON body: " + err.Error() }
	switch {
	case r.Method == http.MethodPut && rest == "":
		var c struct {
			Vectors struct {
				Size     int    `json:"size"`
				Distance string `json:"distance"`
			} `json:"vectors"`
		}
		if err := strict(req.Body, &c); err != nil {
			return bad(err)
		}
		if there {
			return http.StatusConflict, fmt.Sprintf("Wrong input: Collection `%s` already exists!", name)
		}
		s.collection, s.size, s.distance, s.points = name, c.Vectors.Size, c.Vectors.Distance, map[string]Point{}
		return http.StatusOK, true
	case !there:
		return http.StatusNotFound, fmt.Sprintf("Not found: Collection `%s` doesn't exist!", name)
	case r.Method == http.MethodGet && rest == "":
		vectors := map[string]any{"size": s.size, "distance": s.distance}
		return http.StatusOK, map[string]any{"status": "green", "config": map[string]any{"params": map[string]any{"vectors": vectors}}}
	case r.Method == http.MethodPut && rest == "points":
		var p struct {
			Points []struct {
				ID      string         `json:"id"`
				Vector  []float32      `json:"vector"`
				Payload map[string]any `json:"payload"`
			} `json:"points"`
		}
		if err := strict(req.Body, &p); err != nil {
			return bad(err)
		}
		for _, p := range p.Points {
			if !uuid.MatchString(p.ID) {
				return bad(fmt.Errorf("%q is not a valid point ID", p.ID))
			}
			if len(p.Vector) != s.size {
				return http.StatusBadRequest, fmt.Sprintf("Wrong input: Vector dimension error: expected dim: %d, got %d", s.size, len(p.Vector))
			}
		}
		for _, p := range p.Points {
			s.points[p.ID] = Point{p.Vector, p.Payload}
		}
		s.upserts = append(s.upserts, len(p.Points))
		if r.URL.Query().Get("wait") != "true" {
			return http.StatusOK, map[string]any{"operation_id": len(s.upserts), "status": "acknowledged"}
		}
		return http.StatusOK, map[string]any{"operation_id": len(s.upserts), "status": "completed"}
	case r.Method == http.MethodPost && rest == "points":
		var q struct {
			IDs         []string `json:"ids"`
			WithPayload bool     `json:"with_payload"`
			WithVector  bool     `json:"with_vector"`
		}
		if err := strict(req.Body, &q); err != nil {
			return bad(err)
		}
		found := []any{}
		for _, id := range q.IDs {
			if _, ok := s.points[id]; ok {
				found = append(found, map[string]any{"id": id})
			}
		}
		return http.StatusOK, found
	}
	return http.StatusNotFound, ""
}

func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
