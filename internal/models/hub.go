package models

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultEndpoint is the public hub.
const DefaultEndpoint = "https://huggingface.co"

const (
	infoLimit = 64 << 20
	userAgent = "permafrost"
	// maxWait is the longest time that a hub may ask to wait before a retry.
	maxWait = 5 * time.Minute
)

// hub speaks a hub's HTTP API.
type hub struct {
	endpoint string // without a slash at its end
	client   *http.Client
	retries  int
	backoff  time.Duration
	idle     time.Duration
	log      *slog.Logger
}

// newHub checks the address of a hub. The token goes to that address alone,
// not to where it redirects.
func newHub(o PullOptions) (*hub, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w address is http(s)://HOST, not %q", ErrHub, o.Endpoint)
	}
	transport := http.DefaultTransport
	if t, ok := transport.(*http.Transport); ok {
		transport = t.Clone()
	}
	return &hub{
		endpoint: strings.TrimRight(o.Endpoint, "/"),
		client: &http.Client{
			Transport:     &origin{scheme: u.Scheme, host: u.Host, token: o.Token, next: transport},
			CheckRedirect: checkRedirect,
		},
		retries: o.Retries, backoff: o.Backoff, idle: o.IdleTimeout, log: o.Logger,
	}, nil
}

func (h *hub) close() {
	h.client.CloseIdleConnections()
}

// errRedirect is returned for redirects that are not followed.
var errRedirect = errors.New("bad redirect")

// checkRedirect keeps what was asked for over TLS on it: the hashes come that
// way too.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return fmt.Errorf("%w: the tenth in a row", errRedirect)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Scheme)
	}
	return nil
}

// origin adds the token to requests to the hub itself, by scheme, host and
// port. It stands below the handling of redirects, so that no other place
// ever sees it.
type origin struct {
	scheme, host, token string
	next                http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (o *origin) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", userAgent)
	if o.token != "" && req.URL.Scheme == o.scheme && req.URL.Host == o.host {
		req.Header.Set("Authorization", "Bearer "+o.token)
	}
	return o.next.RoundTrip(req)
}

// CloseIdleConnections lets a client close what it keeps open.
func (o *origin) CloseIdleConnections() {
	if c, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// remote is a file of a repository.
type remote struct {
	Path string `json:"rfilename"`
	Size *int64 `json:"size"`
	Blob string `json:"blobId"` // the git blob's SHA-1
	LFS  *struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	} `json:"lfs"`
}

// repository is what the hub says of one at a revision.
type repository struct {
	Commit string   `json:"sha"`
	Files  []remote `json:"siblings"`
}

// info asks what a repository holds.
func (h *hub) info(ctx context.Context, repo, revision string) (*repository, error) {
	at := fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true", h.endpoint, repo, url.PathEscape(revision))
	var out repository
	err := h.retry(ctx, repo, func(ctx context.Context) error {
		ctx, alive, stop := h.watch(ctx)
		defer stop()
		resp, err := h.get(ctx, at, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return statusError(resp, repo+"@"+revision)
		}
		body := &counted{ctx: ctx, r: io.LimitReader(resp.Body, infoLimit+1), add: func(int64) { alive() }}
		data, err := io.ReadAll(body)
		if err != nil {
			return &transient{err: err}
		}
		if len(data) > infoLimit {
			return fmt.Errorf("%w describes %s with more than %d bytes", ErrHub, repo, infoLimit)
		}
		if err := json.Unmarshal(data, &out); err != nil {
			return fmt.Errorf("%w describes %s by what is not its API's answer: %w", ErrHub, repo, err)
		}
		return nil
	})
	if err == nil && !isHex(out.Commit, 40) {
		err = fmt.Errorf("%w names no commit of %s@%s", ErrHub, repo, revision)
	}
	return &out, err
}

// fileURL is where the file of a commit is.
func (h *hub) fileURL(repo, commit, name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return h.endpoint + "/" + repo + "/resolve/" + commit + "/" + strings.Join(parts, "/")
}

// get sends a request. Its error is transient unless ctx ended or the
// request can never succeed.
func (h *hub) get(ctx context.Context, at string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	// The hashes are those of the bytes as they are stored.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := h.client.Do(req)
	if err == nil {
		return resp, nil
	}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	if errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert) || errors.Is(err, errRedirect) {
		return nil, fmt.Errorf("%w cannot be reached: %w", ErrHub, err)
	}
	return nil, &transient{err: fmt.Errorf("%w cannot be reached: %w", ErrHub, err)}
}

// errStalled ends an attempt in which nothing more came.
var errStalled = errors.New("nothing came for too long")

// watch returns a context that ends when alive was not called for a while.
func (h *hub) watch(ctx context.Context) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(h.idle, func() { cancel(errStalled) })
	return ctx, func() { timer.Reset(h.idle) }, func() {
		timer.Stop()
		cancel(nil)
	}
}

// transient is an error after which the same can be tried again.
type transient struct {
	err   error
	after time.Duration // the least time to wait
	// progress says that more is there than ever before, so that failures
	// are counted anew.
	progress bool
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// retry tries again after transient errors, at most h.retries times in a row
// without progress, and waits twice as long each time.
func (h *hub) retry(ctx context.Context, what string, try func(context.Context) error) error {
	for failures := 0; ; {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var t *transient
		if !errors.As(err, &t) {
			return err
		}
		if t.progress {
			failures = 0
		}
		failures++
		if failures > h.retries {
			if !errors.Is(t.err, ErrHub) {
				t.err = fmt.Errorf("%w breaks off: %w", ErrHub, t.err)
			}
			return fmt.Errorf("%w (%d attempts)", t.err, failures)
		}
		if t.after > maxWait {
			return fmt.Errorf("%w; it asks to try again in %v", t.err, t.after)
		}
		wait := h.backoff << min(failures-1, 6)
		wait = max(wait/2+rand.N(wait/2+1), t.after)
		h.log.Warn("trying again", "what", what, "error", t.err, "wait", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// statusError is the error of a response that is none of those wanted.
func statusError(resp *http.Response, what string) error {
	said := resp.Header.Get("X-Error-Code")
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented:
		return &transient{err: fmt.Errorf("%w answers %s for %s", ErrHub, resp.Status, what), after: retryAfter(resp.Header, time.Now())}
	case said == "GatedRepo":
		return fmt.Errorf("%w: %s is gated: accept its terms on the hub, and set HF_TOKEN to a token of that account", ErrAccess, what)
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%w: %s is not there, or is private: check its name, or set HF_TOKEN", ErrAccess, what)
	case code == http.StatusForbidden:
		return fmt.Errorf("%w: the token in HF_TOKEN may not read %s", ErrAccess, what)
	case said == "RevisionNotFound":
		return fmt.Errorf("%w has no revision %s", ErrHub, what)
	case code == http.StatusNotFound:
		return fmt.Errorf("%w has no %s", ErrHub, what)
	}
	return fmt.Errorf("%w answers %s for %s", ErrHub, resp.Status, what)
}

// retryAfter is how long a response asks to wait: seconds, or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// isHex reports whether s is n hexadecimal digits in lower case.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
