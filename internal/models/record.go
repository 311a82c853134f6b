package models

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// recordLimit bounds the record of a wheel.
const recordLimit = 32 << 20

// addRecord takes the hashes from the file RECORD of a wheel, which has a
// line path,sha256=HASH,size for each of its files (the hash is URL-safe
// base64 without padding).
func (t *tree) addRecord() error {
	for _, it := range t.items {
		if dir, base := path.Split(it.path); base != "RECORD" || strings.Count(dir, "/") != 1 || !strings.HasSuffix(dir, ".dist-info/") {
			continue
		}
		if it.size > recordLimit || it.bad != nil {
			return fmt.Errorf("%s cannot be read", it.path)
		}
		r, err := it.open()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r, it.size))
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read %s: %w", it.path, err)
		}
		hashes, err := parseRecord(data)
		if err != nil {
			return fmt.Errorf("read %s: %w", it.path, err)
		}
		for i := range t.items {
			t.items[i].sha256 = hashes[t.items[i].path]
		}
		return nil
	}
	return nil
}

// parseRecord returns the SHA-256 hashes of a record in hexadecimal.
func parseRecord(data []byte) (map[string]string, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	out := map[string]string{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(row) < 2 {
			continue
		}
		if hash, ok := strings.CutPrefix(row[1], "sha256="); ok {
			sum, err := base64.RawURLEncoding.DecodeString(hash)
			if err != nil {
				return nil, fmt.Errorf("the hash of %q: %w", row[0], err)
			}
			out[strings.Clone(row[0])] = hex.EncodeToString(sum)
		}
	}
}
