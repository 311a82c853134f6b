package cachesink

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestOpenStorage(t *testing.T) {
	var got string
	want := Memory()
	RegisterStorage("place-test", func(_ context.Context, url string) (Storage, error) {
		got = url
		if strings.HasSuffix(url, "bad") {
			return nil, errors.New("refused")
		}
		return want, nil
	})
	for _, place := range []string{"place-test://a/b", "PLACE-TEST://a/b"} {
		if st, err := OpenStorage(t.Context(), place); st != want || err != nil || got != place {
			t.Errorf("%s: %v, %v with %q", place, st, err, got)
		}
	}
	if _, err := OpenStorage(t.Context(), "place-test://bad"); err == nil || !strings.Contains(err.Error(), "place-test://bad: refused") {
		t.Errorf("an opener that fails: %v", err)
	}
	for _, dir := range []string{t.TempDir(), "a/b", "a:/b", "a:b", "c://x", "./s3://x", ""} {
		if st, err := OpenStorage(t.Context(), dir); err != nil || st.String() != dir {
			t.Errorf("folder %q: %v, %v", dir, st, err)
		}
	}
	for place, says := range map[string]string{
		"s3://bucket/x":   "pipeline-s3",
		"S3://bucket/x":   "pipeline-s3",
		"gs://bucket/x":   "place-test://",
		"http://host/dir": "place-test://",
	} {
		st, err := OpenStorage(t.Context(), place)
		if !errors.Is(err, ErrScheme) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), place) || st != nil {
			t.Errorf("%s: %v, %v", place, st, err)
		}
		if err := CheckPlace(place); !errors.Is(err, ErrScheme) {
			t.Errorf("check of %s: %v", place, err)
		}
	}
}

func TestRegisterStorageOfBadSchemes(t *testing.T) {
	open := func(context.Context, string) (Storage, error) { return Memory(), nil }
	RegisterStorage("place-once", open)
	for _, scheme := range []string{"", "x", "S3", "a:b", "place-once"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", scheme)
				}
			}()
			RegisterStorage(scheme, open)
		}()
	}
}
