package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	defaultEndpoint   = "https://s3.amazonaws.com"
	defaultTimeout    = 2 * time.Minute
	defaultCacheBytes = 10 << 30
	// metadataTimeout bounds the search for an instance's credentials, on
	// machines that are none.
	metadataTimeout = 5 * time.Second
)

// config is all that the environment decides.
type config struct {
	endpoint   *url.URL
	region     string
	lookup     minio.BucketLookupType
	timeout    time.Duration // of a request, retries included
	dir        string
	cacheBytes int64
}

func configFrom(env func(string) string) (config, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if v := env(name); v != "" {
				return name, v
			}
		}
		return names[0], ""
	}
	c := config{timeout: defaultTimeout, cacheBytes: defaultCacheBytes}
	_, c.region = first("AWS_REGION", "AWS_DEFAULT_REGION")
	name, endpoint := first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	if endpoint == "" {
		endpoint = defaultEndpoint
	} else if c.region == "" {
		c.region = "us-east-1"
	}
	var err error
	c.endpoint, err = url.Parse(endpoint)
	if err != nil || c.endpoint.Scheme != "http" && c.endpoint.Scheme != "https" || c.endpoint.Host == "" || strings.Trim(c.endpoint.Path, "/") != "" {
		return c, fmt.Errorf("%s is %q, want http(s)://host:port", name, endpoint)
	}
	if v := env("PERMAFROST_S3_PATH_STYLE"); v != "" {
		path, err := strconv.ParseBool(v)
		if err != nil {
			return c, fmt.Errorf("PERMAFROST_S3_PATH_STYLE is %q, want true or false", v)
		}
		c.lookup = minio.BucketLookupDNS
		if path {
			c.lookup = minio.BucketLookupPath
		}
	}
	if v := env("PERMAFROST_S3_TIMEOUT"); v != "" {
		if c.timeout, err = time.ParseDuration(v); err != nil || c.timeout <= 0 {
			return c, fmt.Errorf("PERMAFROST_S3_TIMEOUT is %q, want a time like 90s", v)
		}
	}
	if v := env("PERMAFROST_S3_CACHE_BYTES"); v != "" {
		if c.cacheBytes, err = parseBytes(v); err != nil {
			return c, fmt.Errorf("PERMAFROST_S3_CACHE_BYTES is %q, want a number of bytes like 512MiB", v)
		}
	}
	if c.dir = env("PERMAFROST_S3_DIR"); c.dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("find the local folder, which PERMAFROST_S3_DIR names: %w", err)
		}
		c.dir = filepath.Join(cache, "permafrost", "s3")
	}
	return c, nil
}

// parseBytes reads 123, 4KiB, 5MiB, 6GiB or 7TiB.
func parseBytes(s string) (int64, error) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			s, shift = strings.TrimSpace(number), 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, errors.New("not a size")
	}
	return n << shift, nil
}

// Open returns the storage at a place s3://bucket/prefix, configured by the
// environment. It makes no request: what is wrong with the bucket or the
// credentials shows at the first use.
func Open(_ context.Context, place string) (store.Store, error) {
	c, err := configFrom(os.Getenv)
	if err != nil {
		return nil, err
	}
	return open(place, c)
}

func open(place string, c config) (*Store, error) {
	bucket, prefix, err := parsePlace(place)
	if err != nil {
		return nil, err
	}
	secure := c.endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	client, err := minio.NewCore(c.endpoint.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{},
			&credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: http.DefaultTransport, Timeout: metadataTimeout}},
		}),
		Secure: secure, Transport: transport, Region: c.region, BucketLookup: c.lookup,
		MaxRetries: 1, // requests are tried again here, where it is known what a lost answer means
	})
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", c.endpoint, err)
	}
	id := sha256.Sum256([]byte(c.endpoint.String() + "\x00" + bucket + "\x00" + prefix))
	work := filepath.Join(c.dir, "work", bucket+"-"+hex.EncodeToString(id[:8]))
	return &Store{
		c:     &requester{Core: client, endpoint: c.endpoint.String(), timeout: c.timeout, backoff: firstBackoff, slowest: slowest},
		place: "s3://" + strings.TrimSuffix(bucket+"/"+prefix, "/"), bucket: bucket, prefix: prefix,
		local: store.NewDir(work, nil),
		cache: newBlockCache(filepath.Join(c.dir, "blocks"), c.cacheBytes),
	}, nil
}

// parsePlace splits s3://bucket/prefix. The prefix has a slash at its end,
// unless it is empty.
func parsePlace(place string) (bucket, prefix string, err error) {
	u, err := url.Parse(place)
	if err != nil {
		return "", "", fmt.Errorf("want s3://bucket/prefix: %w", err)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Host == "" || u.Port() != "" {
		return "", "", errors.New("want s3://bucket/prefix; endpoint, region and credentials come from the environment")
	}
	prefix = strings.Trim(u.Path, "/")
	if prefix == "" {
		return u.Host, "", nil
	}
	if err := store.Valid("open", prefix); err != nil {
		return "", "", fmt.Errorf("want s3://bucket/prefix: %w", err)
	}
	return u.Host, prefix + "/", nil
}
