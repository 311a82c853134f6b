// Command direct prints the embeddings that encoders give, without a cache:
// for each line of the standard input, a text, and each encoder (static, and
// the transformer in the folder that is its argument) one line with the bytes
// of the float32 values, little endian, in hexadecimal.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/static"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder string) error {
	var encoders []encode.Encoder
	for _, m := range []encode.Model{static.Default(), bert.Model(folder)} {
		e, err := m.Open(ctx, 0)
		if err != nil {
			return err
		}
		defer e.Close()
		encoders = append(encoders, e)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		for _, e := range encoders {
			in, err := encode.Reads{}.Input(encode.Text(lines.Text()))
			if err != nil {
				return err
			}
			vec := make([]float32, e.Dim())
			if err := e.Encode(ctx, []encode.Input{in}, vec); err != nil {
				return err
			}
			var b bytes.Buffer
			if err := binary.Write(&b, binary.LittleEndian, vec); err != nil {
				return err
			}
			fmt.Printf("%x\n", b.Bytes())
		}
	}
	return lines.Err()
}
