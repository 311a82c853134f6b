package s3

import (
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

func TestConfig(t *testing.T) {
	env := func(vars map[string]string) func(string) string {
		return func(name string) string { return vars[name] }
	}
	c, err := configFrom(env(map[string]string{"PERMAFROST_S3_DIR": "d"}))
	if err != nil || c.endpoint.String() != defaultEndpoint || c.region != "" || c.timeout != 2*time.Minute || c.cacheBytes != 10<<30 || c.dir != "d" || c.lookup != minio.BucketLookupAuto {
		t.Errorf("the default: %+v, %v", c, err)
	}
	c, err = configFrom(env(map[string]string{
		"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "http://b:2/", "AWS_DEFAULT_REGION": "r",
		"PERMAFROST_S3_PATH_STYLE": "true", "PERMAFROST_S3_TIMEOUT": "9s", "PERMAFROST_S3_CACHE_BYTES": "3MiB", "PERMAFROST_S3_DIR": "x",
	}))
	if err != nil || c.endpoint.Host != "b:2" || c.region != "r" || c.timeout != 9*time.Second || c.cacheBytes != 3<<20 || c.dir != "x" || c.lookup != minio.BucketLookupPath {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := configFrom(env(map[string]string{"AWS_ENDPOINT_URL": "https://a"})); err != nil || c.region != "us-east-1" {
		t.Errorf("the region of an endpoint: %+v, %v", c, err)
	}
	for name, bad := range map[string][]string{
		"AWS_ENDPOINT_URL_S3":       {"localhost:9000", "ftp://x", "http://", "http://a/b", "http://%"},
		"AWS_ENDPOINT_URL":          {"x"},
		"PERMAFROST_S3_PATH_STYLE":  {"maybe"},
		"PERMAFROST_S3_TIMEOUT":     {"9", "-1s", "0s"},
		"PERMAFROST_S3_CACHE_BYTES": {"-1", "1.5GiB", "5GB", "9999999TiB"},
	} {
		for _, v := range bad {
			if _, err := configFrom(env(map[string]string{name: v})); err == nil || !strings.HasPrefix(err.Error(), name+" is") {
				t.Errorf("%s=%s: %v", name, v, err)
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	c := testConfig(t, "http://127.0.0.1:1")
	for place, want := range map[string]string{
		"s3://bucket":         "s3://bucket",
		"s3://bucket/":        "s3://bucket",
		"s3://my-bucket/a/b/": "s3://my-bucket/a/b",
		"S3://bucket/a":       "s3://bucket/a",
	} {
		if s, err := open(place, c); err != nil || s.String() != want {
			t.Errorf("%s: %v, %v", place, s, err)
		}
	}
	for _, place := range []string{
		"s3://", "s3:///a", "s3://b/a//c", "s3://b/../c", "s3://key:secret@b/a", "s3://b/a?region=x", "s3://b/a#x", "s3://b:9000/a", "s3://%zz",
	} {
		if s, err := open(place, c); err == nil || !strings.Contains(err.Error(), "s3://bucket/prefix") {
			t.Errorf("%s: %v, %v", place, s, err)
		}
	}
}
