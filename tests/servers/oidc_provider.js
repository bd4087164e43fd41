// The certified oidc-provider under TLS. Arguments: the folder of node_modules, the file with key and certificate, the port.
//
// Clients are registered by HTTP (RFC 7591, RFC 7592); the mailbox of an application is its client_name. A refresh token is good for
// one use, and presenting it again ends the grant (RFC 9700, section 4.14.2).
const fs = require("fs");
const https = require("https");
const path = require("path");
const {pathToFileURL} = require("url");
const [modules, chain, port] = process.argv.slice(2);

async function main() {
  const {Provider} = await import(pathToFileURL(path.join(modules, "node_modules", "oidc-provider", "lib", "index.js")));
  const provider = new Provider(`https://localhost:${port}`, {
    clients: [{
      client_id: "mailserver", client_secret: "the-secret-of-the-mail-server",
      grant_types: [], response_types: [], redirect_uris: [],
    }],
    scopes: ["openid", "offline_access", "mail"],
    claims: {openid: ["sub", "email"]},
    conformIdTokenClaims: false,
    clientAuthMethods: ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
    enabledJWA: {clientAuthSigningAlgValues: ["PS256"]},
    rotateRefreshToken: true,
    issueRefreshToken: () => true,
    findAccount: (_, id) => ({accountId: id, claims: () => ({sub: id, email: id})}),
    async extraTokenClaims(_, token) {
      return {email: token.accountId || (await provider.Client.find(token.clientId)).clientName};
    },
    // As long as Entra's, so that none fits into the line of AUTH.
    formats: {bitsOfOpaqueRandomness: 16000},
    features: {
      clientCredentials: {enabled: true},
      deviceFlow: {enabled: true},
      devInteractions: {enabled: true},
      introspection: {enabled: true, allowedPolicy: () => true},
      registration: {enabled: true},
      registrationManagement: {enabled: true, rotateRegistrationAccessToken: false},
    },
  });
  const pem = fs.readFileSync(chain);
  https.createServer({key: pem, cert: pem}, provider.callback()).listen(Number(port), "127.0.0.1");
}

main();
