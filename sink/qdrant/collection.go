package qdrant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Distances are how vectors may be compared.
func Distances() []string { return []string{"Cosine", "Dot", "Euclid", "Manhattan"} }

// ErrCollection is returned for a collection of other vectors.
var ErrCollection = errors.New("the collection holds other vectors")

// ErrOptions is returned for options that cannot be, before anything is sent.
var ErrOptions = errors.New("cannot upload so")

// Options say where points go, and how hard is tried.
type Options struct {
	// URL is the server's, such as http://127.0.0.1:6333.
	URL string
	// Collection is the collection's name.
	Collection string
	// APIKey is sent with every request. Default: none.
	APIKey string
	// Dim is the number of values of a vector.
	Dim int
	// Distance is how the collection compares vectors, one of [Distances].
	// Default: Cosine.
	Distance string
	// Vector and ID are the columns of the embedding and of the object's id,
	// fixed_size_binary[32] or as hexadecimal text. Default: embedding and id,
	// as of an encoder's objects.
	Vector, ID string
	// Attempts is how often a request is sent before it has failed. Default: 8.
	Attempts int
	// Wait is the time before the second attempt; it doubles. Default: 250 ms.
	Wait time.Duration
	// Timeout is how long an attempt may take. Default: 1 min.
	Timeout time.Duration
	// Client sends the requests; redirects are not followed. Default:
	// http.DefaultClient.
	Client *http.Client
}

func (o Options) withDefaults() (Options, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return o, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return o, fmt.Errorf("%q is no address of a server: want http://HOST:PORT", o.URL)
	case o.Collection == "" || len(o.Collection) > 255 || strings.ContainsAny(o.Collection, "/\\?#<>:\"|*\x00") || strings.Trim(o.Collection, ".") == "":
		return o, fmt.Errorf("%q is no name of a collection", o.Collection)
	case o.Dim < 1:
		return o, fmt.Errorf("vectors of %d values", o.Dim)
	case o.Attempts < 0 || o.Wait < 0 || o.Timeout < 0:
		return o, fmt.Errorf("%d attempts after %v of at most %v", o.Attempts, o.Wait, o.Timeout)
	}
	o.URL = strings.TrimRight(o.URL, "/")
	if o.Distance == "" {
		o.Distance = "Cosine"
	}
	if !slices.Contains(Distances(), o.Distance) {
		return o, fmt.Errorf("there is no distance %q, but %q", o.Distance, Distances())
	}
	if o.Vector == "" {
		o.Vector = "embedding"
	}
	if o.ID == "" {
		o.ID = "id"
	}
	if o.Attempts == 0 {
		o.Attempts = 8
	}
	if o.Wait == 0 {
		o.Wait = 250 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	return o, nil
}

// Collection is a collection that fits the vectors. It is safe for concurrent
// use.
type Collection struct {
	opts   Options
	client *client
	path   string
	made   bool
}

// Open makes the collection, or checks that the one that is there has vectors
// of that size and distance: else ErrCollection.
func Open(ctx context.Context, o Options) (*Collection, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	c := &Collection{opts: o, client: newClient(o), path: "/collections/" + url.PathEscape(o.Collection)}
	there, err := c.check(ctx)
	if err == nil && !there {
		err = c.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open collection %q of %s: %w", o.Collection, o.URL, err)
	}
	return c, nil
}

// Created reports whether Open has made the collection.
func (c *Collection) Created() bool { return c.made }

// vectorParams say what the vectors of a collection are.
type vectorParams struct {
	Size     int    `json:"size"`
	Distance string `json:"distance"`
}

// check reports whether the collection is there, and fails if it does not fit.
func (c *Collection) check(ctx context.Context) (bool, error) {
	var info struct {
		Config struct {
			Params struct{ Vectors json.RawMessage }
		}
	}
	err := c.client.call(ctx, http.MethodGet, c.path, nil, &info)
	var no *Error
	if errors.As(err, &no) && no.Status == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var got vectorParams
	want := vectorParams{c.opts.Dim, c.opts.Distance}
	if err := json.Unmarshal(info.Config.Params.Vectors, &got); err != nil || got.Size == 0 {
		return false, fmt.Errorf("%w: not one unnamed vector a point", ErrCollection)
	}
	if got != want {
		return false, fmt.Errorf("%w: of %d values compared by %s, not %d by %s", ErrCollection, got.Size, got.Distance, want.Size, want.Distance)
	}
	return true, nil
}

func (c *Collection) create(ctx context.Context) error {
	body, err := json.Marshal(struct {
		Vectors vectorParams `json:"vectors"`
	}{vectorParams{c.opts.Dim, c.opts.Distance}})
	if err != nil {
		return err
	}
	failed := c.client.call(ctx, http.MethodPut, c.path, body, nil)
	if failed == nil {
		c.made = true
		return nil
	}
	// Somebody else was faster, or an earlier attempt whose answer was lost.
	var no *Error
	if errors.As(failed, &no) {
		if there, err := c.check(ctx); there || errors.Is(err, ErrCollection) {
			return err
		}
	}
	return fmt.Errorf("create it: %w", failed)
}
