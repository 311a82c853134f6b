package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// slowest is the rate, in bytes a second, below which a transfer counts
	// as stuck.
	slowest int64 = 256 << 10
	// firstTries is how often an endpoint is tried that has never answered.
	firstTries = 4
)

// requester makes requests, again where that may help.
type requester struct {
	*minio.Core
	endpoint string
	timeout  time.Duration // of a request with its retries
	backoff  time.Duration // the first
	slowest  int64         // bytes a second
	reached  atomic.Bool   // the endpoint has answered, and did so of late
	gone     atomic.Bool   // it was waited for to the end, in vain
}

// request is one request, for messages.
type request struct {
	op    string
	path  string // s3://bucket/key
	bytes int64  // that it transfers
}

// do calls fn until it succeeds or fails for good, ctx ends or the time is
// over. Each call has a context of its own, which ends early enough for
// another. The error is fn's last, with what it means.
func (c *requester) do(ctx context.Context, r request, fn func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	transfer := time.Duration(float64(r.bytes) / float64(c.slowest) * float64(time.Second))
	start := time.Now()
	total, cancel := context.WithTimeout(ctx, c.timeout+transfer)
	defer cancel()
	wait := c.backoff
	for tries := 1; ; tries++ {
		err := func() error {
			one, cancel := context.WithTimeout(total, c.timeout/4+transfer)
			defer cancel()
			return fn(one)
		}()
		if err == nil {
			c.answered()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		again := c.again(err, tries)
		if again {
			select {
			case <-time.After(wait/2 + rand.N(wait/2+1)):
				wait = min(2*wait, maxBackoff)
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-total.Done():
			}
		}
		if status(err) == 0 {
			c.reached.Store(false)
			c.gone.Store(true)
		}
		err = c.explain(r, err)
		if tries > 1 {
			err = fmt.Errorf("%w (tried %d times in %s)", err, tries, time.Since(start).Round(time.Second/10))
		}
		return err
	}
}

// answered notes that the endpoint is there. Where it was given up, each
// request is tried once until it is back: what tidies up after an error is not
// to wait as long again.
func (c *requester) answered() {
	c.reached.Store(true)
	c.gone.Store(false)
}

// again says whether another try may help.
func (c *requester) again(err error, tries int) bool {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		// The network, or an answer that was cut.
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound {
			return false
		}
		return c.reached.Load() || tries < firstTries && !c.gone.Load()
	}
	c.answered()
	switch answer.Code {
	case "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout", "SlowDown", // damage on the way, or load
		"ConditionalRequestConflict", "OperationAborted": // two puts at once, of which neither has won yet
		return true
	}
	switch s := answer.StatusCode; s {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return true
	case http.StatusNotImplemented:
		return false
	default:
		return s < 300 || s >= 500 // an error in an answer of success is one of the store
	}
}

// code returns the store's word for an error, empty if it did not answer.
func code(err error) string {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

func status(err error) int {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// unmet says that the condition of a put did not hold.
func unmet(err error) bool { return status(err) == http.StatusPreconditionFailed }

// deniedCodes are refusals that some stores give another status than Amazon's.
var deniedCodes = []string{"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}

// explain says what was tried on what, and what the answer means.
func (c *requester) explain(r request, err error) error {
	wrap := func(err error) error { return &fs.PathError{Op: r.op, Path: r.path, Err: err} }
	switch code := code(err); {
	case code == "NoSuchBucket":
		return wrap(fmt.Errorf("the bucket does not exist at %s", c.endpoint))
	case unmet(err):
		return wrap(fs.ErrExist)
	case code == "NoSuchUpload":
		return wrap(err)
	case code == "NoSuchKey" || code == "NotFound":
		return wrap(fs.ErrNotExist)
	case status(err) == http.StatusForbidden || status(err) == http.StatusUnauthorized || slices.Contains(deniedCodes, code):
		if v, e := c.GetCreds(); e != nil || v.AccessKeyID == "" {
			return wrap(fmt.Errorf("%w at %s: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", fs.ErrPermission, c.endpoint))
		}
		return wrap(fmt.Errorf("%w at %s: %s: %w", fs.ErrPermission, c.endpoint, code, err))
	case status(err) == 0:
		return wrap(fmt.Errorf("no answer from %s: %w", c.endpoint, err))
	default:
		return wrap(fmt.Errorf("%s: %w", code, err))
	}
}
