package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/pipeline/serve"
	"github.com/permafrost-ml/permafrost/sink/flight"
)

// tokenVariable is the environment's token, and maxToken the bytes of one.
const (
	tokenVariable = "PERMAFROST_TOKEN"
	maxToken      = 4096
)

type serveFlags struct {
	sets, splits         []string
	listen, tokenFile    string
	certificate, key     string
	connections, streams int
	batchBytes           int64
	anyone               bool
}

func (a *app) serveCommand() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use:   "serve DIR-or-CONFIG",
		Short: "Give epochs to other processes over Arrow Flight",
		Long: help(`
Serves the batches of a cache's splits to Arrow Flight clients of any language,
until a signal comes. A flight's descriptor is the name of a split as path, or a
ticket as command; a ticket is a JSON object, of which only split must be given:

  {"split": "train", "epoch": 0, "shuffle": true, "seed": 42, "batch_size": 256,
   "drop_last": false, "world_size": 4, "rank": 0, "first_batch": 0,
   "columns": ["label", "content_encoder"]}

The batches are those of training with that seed and batch size. Rank r of W
gets the batches first_batch+r, first_batch+r+W, ...; the number of a batch comes
with it as app_metadata, {"batch":0}. A signal ends the streams after the batch
that they are at.

Clients on other machines need --listen ADDRESS:PORT, and a token: the content of
--token-file or of PERMAFROST_TOKEN, sent as the header "authorization: Bearer
TOKEN". With --tls-cert and --tls-key connections are encrypted.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline serve cache_dir\n" +
			"  pipeline serve config.yaml --split train --listen :8815 --token-file token --tls-cert cert.pem --tls-key key.pem",
		Args: oneArg("a cache folder or a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for name, n := range map[string]int64{"max-connections": int64(flags.connections), "max-streams": int64(flags.streams), "max-batch-bytes": flags.batchBytes} {
				if n < 1 {
					return usagef("--%s takes a number from 1, not %d", name, n)
				}
			}
			if (flags.certificate == "") != (flags.key == "") {
				return usagef("--tls-cert and --tls-key go together")
			}
			return a.serve(cmd.Context(), args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	f.StringArrayVar(&flags.splits, "split", nil, "a `SPLIT` to serve, its name or folder; may be repeated (default: the newest of each name)")
	f.StringVar(&flags.listen, "listen", "127.0.0.1:8815", "the `ADDRESS:PORT` to listen at")
	f.StringVar(&flags.tokenFile, "token-file", "", "a `FILE` with the token that clients must send")
	f.BoolVar(&flags.anyone, "anyone", false, "serve everyone who can reach an address that is not loopback")
	f.StringVar(&flags.certificate, "tls-cert", "", "a `FILE` with the server's certificate chain, as PEM")
	f.StringVar(&flags.key, "tls-key", "", "a `FILE` with its private key, as PEM")
	f.IntVar(&flags.connections, "max-connections", 64, "connections at once, `N`")
	f.IntVar(&flags.streams, "max-streams", 16, "streams at once, `N`")
	f.Int64Var(&flags.batchBytes, "max-batch-bytes", 64<<20, "refuse streams with batches of more than `N` bytes; a stream takes up to five times as much memory as a batch")
	return cmd
}

// serveDoc is what serve --json prints when it is ready.
type serveDoc struct {
	SchemaVersion int           `json:"schema_version"`
	Dir           string        `json:"dir"`
	Generation    int64         `json:"generation"`
	Address       string        `json:"address"`
	Splits        []servedSplit `json:"splits"`
}

type servedSplit struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Rows        int64  `json:"rows"`
}

func (a *app) serve(ctx context.Context, place string, flags serveFlags) (err error) {
	c, err := openCache(ctx, place, flags.sets)
	if err != nil {
		return err
	}
	served := newestSplits(c.Manifest())
	if len(flags.splits) > 0 {
		served = nil
	}
	for _, name := range flags.splits {
		s, err := findSplit(c.Manifest(), name)
		if err != nil {
			return err
		}
		served = append(served, s)
	}
	opts, err := flags.options()
	if err != nil {
		return err
	}
	opts.Logger = a.logger(a.stderr)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", flags.listen)
	if err != nil {
		return err
	}
	defer l.Close() // where nothing comes to serve it
	if err := opts.Allowed(l.Addr()); err != nil {
		return err
	}
	splits, err := serve.Open(ctx, c, served)
	if err != nil {
		return err
	}
	defer splits.Release()
	if err := a.printServe(c, served, opts, l); err != nil {
		return err
	}
	if err := splits.Flight(ctx, opts, l); err != nil {
		return err
	}
	var sig *signalError
	if errors.As(context.Cause(ctx), &sig) {
		return &exitError{exitSignal + int(sig.signal)} // how a server ends
	}
	return context.Cause(ctx)
}

func (f *serveFlags) options() (flight.Options, error) {
	o := flight.Options{
		Token: os.Getenv(tokenVariable), Anyone: f.anyone,
		MaxConnections: f.connections, MaxStreams: f.streams, MaxBatchBytes: f.batchBytes,
	}
	if f.tokenFile != "" {
		b, err := bounded.Read(f.tokenFile, maxToken)
		if err != nil {
			return o, fmt.Errorf("read the token: %w", err)
		}
		if o.Token = strings.TrimSpace(string(b)); o.Token == "" {
			return o, usagef("--token-file %s is empty", f.tokenFile)
		}
	}
	if f.certificate != "" {
		cert, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return o, fmt.Errorf("load the certificate: %w", err)
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	return o, nil
}

// printServe says where clients find what.
func (a *app) printServe(c *cachesink.Cache, splits []*cachesink.Split, o flight.Options, l net.Listener) error {
	scheme := "grpc"
	if o.TLS != nil {
		scheme = "grpc+tls"
	}
	doc := serveDoc{
		SchemaVersion: schemaVersion, Dir: c.Storage().String(), Generation: c.Manifest().Generation,
		Address: scheme + "://" + l.Addr().String(), Splits: []servedSplit{},
	}
	text := ""
	for _, s := range splits {
		doc.Splits = append(doc.Splits, servedSplit{s.Name, s.Fingerprint, s.Rows})
		text += fmt.Sprintf("  %s: %s %s\n", s.Name, count(s.Rows), plural(s.Rows, "row", "rows"))
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && o.Token != "" && o.TLS == nil {
		o.Logger.Warn("the token crosses the network in the clear", "hint", "--tls-cert and --tls-key")
	}
	if a.json {
		return a.printJSON(doc)
	}
	_, err := fmt.Fprintf(a.stdout, "serving %s\n%s", doc.Address, text)
	return err
}
