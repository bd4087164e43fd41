// A server of nodemailer's smtp-server with limits. Arguments: the folder of node_modules, the mailboxes' folder, the port,
// mails in a session, recipients in a mail, bytes of a mail. A session that was served its mails is closed.
const fs = require("fs");
const path = require("path");
const [modules, box, port, mails, recipients, size] = process.argv.slice(2);
const {SMTPServer} = require(path.join(modules, "node_modules", "smtp-server"));

const refusal = (code, text) => Object.assign(new Error(text), {responseCode: code});
let written = 0;

const server = new SMTPServer({
  name: "node.example.test",
  disabledCommands: ["AUTH", "STARTTLS"],
  disableReverseLookup: true,
  size: Number(size),
  onMailFrom(address, session, callback) {
    if ((session.served || 0) >= Number(mails)) return callback(refusal(452, "Too many mails in this session"));
    callback();
  },
  onRcptTo(address, session, callback) {
    if (address.address.startsWith("refused@")) return callback(refusal(550, "No such user"));
    if (session.envelope.rcptTo.length >= Number(recipients)) return callback(refusal(452, "Too many recipients"));
    callback();
  },
  onData(stream, session, callback) {
    const chunks = [];
    stream.on("data", chunk => chunks.push(chunk));
    stream.on("end", () => {
      if (stream.sizeExceeded) return callback(refusal(552, "Message exceeds fixed maximum message size"));
      for (const {address} of session.envelope.rcptTo) {
        const folder = path.join(box, address.split("@")[0], "new");
        fs.mkdirSync(folder, {recursive: true});
        fs.writeFileSync(path.join(folder, String(written++)), Buffer.concat(chunks));
      }
      session.served = (session.served || 0) + 1;
      callback();
    });
  },
});
server.on("error", error => console.error(error.message));
server.listen(Number(port), "127.0.0.1");
