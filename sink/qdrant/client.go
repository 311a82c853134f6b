package qdrant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxAnswer bounds an answer of the server.
	maxAnswer = 4 << 20
	// maxWait bounds the time between two attempts.
	maxWait = 30 * time.Second
)

// Error is an answer of the server that says no.
type Error struct {
	Status  int
	Message string // what the server says of it
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the server answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the server answers %d: %s", e.Status, e.Message)
}

// passes reports whether the same request may succeed later.
func (e *Error) passes() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// client sends requests, as often as it takes.
type client struct {
	base     string
	key      string
	http     *http.Client
	attempts int
	wait     time.Duration
	timeout  time.Duration
}

func newClient(o Options) *client {
	h := *o.Client
	// A key that is meant for one server does not follow it elsewhere.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{o.URL, o.APIKey, &h, o.Attempts, o.Wait, o.Timeout}
}

// call sends a request until it has an answer, and decodes its result into
// out; an answer that out refuses is asked for again.
func (c *client) call(ctx context.Context, method, path string, body []byte, out any) error {
	wait := c.wait
	for attempt := 1; ; attempt++ {
		after, err := c.once(ctx, method, path, body, out)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var no *Error
		if errors.As(err, &no) && !no.passes() {
			return err
		}
		if attempt == c.attempts {
			return fmt.Errorf("%w (after %d attempts)", err, attempt)
		}
		// Clients that failed together come back apart.
		pause := max(after, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, maxWait)
		select {
		case <-time.After(min(pause, maxWait)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// once sends a request and returns how long the server wants to be left
// alone.
func (c *client) once(ctx context.Context, method, path string, body []byte, out any) (after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("api-key", c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			after = time.Duration(min(s, int(maxWait.Seconds()))) * time.Second
		}
		var no struct{ Status struct{ Error string } }
		_ = json.Unmarshal(b, &no) // a proxy's answer is not JSON
		return after, &Error{resp.StatusCode, no.Status.Error}
	}
	var answer struct{ Result json.RawMessage }
	if err := json.Unmarshal(b, &answer); err != nil {
		return 0, fmt.Errorf("the answer is not JSON: %w", err)
	}
	if out == nil {
		return 0, nil
	}
	if err := json.Unmarshal(answer.Result, out); err != nil {
		return 0, fmt.Errorf("the answer is not as expected: %w", err)
	}
	return 0, nil
}
