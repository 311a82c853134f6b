// Package s3 keeps caches in object stores that speak the S3 protocol: at
// places s3://bucket/prefix. It is a module of its own, so that programs which
// need folders only do not link its client.
//
//	cachesink.RegisterStorage("s3", s3.Open)
//
// makes the storage known to package pipeline and to the command line; the
// program pipeline-s3 is the command with that line.
//
// # Configuration
//
// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN, from the profile AWS_PROFILE of ~/.aws/credentials (or of
// AWS_SHARED_CREDENTIALS_FILE), or from the instance, container or web
// identity that the process runs with, whichever is found first. Beside those:
//
//	AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL  http(s)://host:port of another store than Amazon's
//	AWS_REGION, AWS_DEFAULT_REGION         its region; else the bucket's, us-east-1 with an endpoint
//	PERMAFROST_S3_PATH_STYLE               true or false: the bucket in the path or in the host's name; else as the endpoint has it
//	PERMAFROST_S3_TIMEOUT                  how long a request is tried before it fails, 2m if not set
//	PERMAFROST_S3_DIR                      the local folder, permafrost/s3 in the user's cache folder if not set
//	PERMAFROST_S3_CACHE_BYTES              the size of the read cache, 10GiB if not set, 0 for none
//
// # What is where
//
// Files of the cache are objects prefix/name, with the bytes that they have in
// a folder. A file is written in the local folder and uploaded when it gets its
// name; those over 16 MiB in parts. A file that must not replace another is
// put on the condition that there is none, which makes commits safe: a store
// that ignores the condition is found out before the first such put, and
// refused. Each object has a random word in its metadata, by which a put whose
// answer was lost is known again.
//
// Parts of shards that a fill writes for its own resumption (*.partial) stay in
// the local folder: a fill that was killed resumes them where it ran, and
// elsewhere starts from the last whole shard.
//
// What is read of the data files is kept in the local folder in blocks of 4
// MiB, and the least recently read blocks make room for others. Blocks belong
// to one version of an object, by its ETag, so they are never stale; one whose
// checksum is wrong is fetched again. Several processes may share the folder:
// each may then exceed the size of the read cache by a sixteenth.
package s3
