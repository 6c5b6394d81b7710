// Uploads a file with tus-js-client, which is installed in a folder, and writes what happens as lines of JSON:
//     node tus_client.js FOLDER ENDPOINT FILE OPTIONS
// "endless" among the options has the file come as a stream whose length nobody knows, "abort" has the upload be given
// up, and removed, once a chunk has arrived, "storage" is a file in which uploads are noted, to be resumed from.

const fs = require("fs")
const { PassThrough } = require("stream")

const [folder, endpoint, path, options] = process.argv.slice(2)
const tus = require(require.resolve("tus-js-client", { paths: [folder] }))
const { endless, abort, storage, ...given } = JSON.parse(options)

function say(what) {
  fs.writeSync(1, JSON.stringify(what) + "\n")
}

const file = fs.createReadStream(path)
// Of what comes through a pipe the client cannot look how long it is.
const upload = new tus.Upload(endless ? file.pipe(new PassThrough()) : file, {
  ...given,
  endpoint,
  ...(storage ? { urlStorage: new tus.FileUrlStorage(storage) } : {}),
  onUploadUrlAvailable: () => say({ url: upload.url }),
  onChunkComplete: (size, accepted) => {
    say({ accepted })
    if (abort) upload.abort(true).then(() => say({ aborted: true }))
  },
  onShouldRetry: (error) => {
    say({ retried: error.originalResponse ? error.originalResponse.getStatus() : 0 })
    return true
  },
  onSuccess: ({ lastResponse }) => say({ url: upload.url, job: lastResponse.getHeader("Ingest-Job-Id") }),
  onError: (error) => {
    say({ error: String(error) })
    process.exitCode = 1
  },
})
upload.findPreviousUploads().then((previous) => {
  if (previous.length) upload.resumeFromPreviousUpload(previous[0])
  say({ resumed: previous.length })
  upload.start()
})
