package cli

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/sink/qdrant"
)

// qdrantKey is the environment's key of the server.
const qdrantKey = "QDRANT_API_KEY"

// uploadDoc is what export --to --json prints.
type uploadDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Dir           string `json:"dir"`
	Generation    int64  `json:"generation"`
	To            string `json:"to"`
	*export.Uploaded
	Seconds float64 `json:"seconds"`
}

// upload is export with --to.
func (a *app) upload(ctx context.Context, place string, flags exportFlags) error {
	to, err := destination(flags.to)
	if err != nil {
		return err
	}
	to.APIKey, to.Distance = os.Getenv(qdrantKey), flags.distance
	if to.APIKey != "" && strings.HasPrefix(flags.to, "qdrant:") && !loopback(to.URL) {
		a.logger(a.stderr).Warn("the server's key crosses the network in the clear", "hint", "qdrants:// connects with TLS")
	}
	c, err := openCache(ctx, place, flags.sets)
	if err != nil {
		return err
	}
	if flags.Splits, err = exportedSplits(c.Manifest(), flags); err != nil {
		return err
	}
	start := time.Now()
	m := a.newMeter()
	flags.OnProgress = func(rows, total int64) { m.report(event{Phase: "upload", Rows: rows}) }
	res, err := export.ToQdrant(ctx, c, flags.Options, export.Upload{To: to, Cursors: flags.cursors})
	m.done()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(uploadDoc{schemaVersion, c.Storage().String(), c.Manifest().Generation, flags.to, res, time.Since(start).Seconds()})
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s %s\n", flags.to, count(res.Rows), plural(res.Rows, "row", "rows"))
	return err
}

// loopback reports whether a URL is of this machine.
func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// destination reads qdrant://HOST:PORT/COLLECTION.
func destination(to string) (o qdrant.Options, err error) {
	u, err := url.Parse(to)
	if err != nil {
		return o, usagef("--to: %w", err)
	}
	scheme := map[string]string{"qdrant": "http", "qdrants": "https"}[u.Scheme]
	collection := strings.TrimPrefix(u.Path, "/")
	if scheme == "" || u.Hostname() == "" || u.User != nil || collection == "" || u.RawQuery != "" || u.Fragment != "" {
		return o, usagef("--to is qdrant://HOST:PORT/COLLECTION, not %q", u.Redacted())
	}
	host := u.Host
	if u.Port() == "" {
		host += ":6333"
	}
	return qdrant.Options{URL: scheme + "://" + host, Collection: collection}, nil
}
