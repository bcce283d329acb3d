// A device is its key: the id is a digest of the public key, and whatever the device says is signed with it.

import { asSource, fromHex, join, sha256, toHex } from "./bytes.js";
import { encode, type Value } from "./canonical.js";
import { FedlogError } from "./errors.js";

// The prefix that multicodec gives a public key of Ed25519.
const ED25519 = Uint8Array.of(0xed, 0x01);
const ID_DIGITS = 32;
// What stands before 32 bytes of secret in PKCS #8, the one form in which Web Crypto takes a private key.
const PKCS8 = fromHex("302e020100300506032b657004220420");
const CHECKIN = new TextEncoder().encode("fedlog/checkin/1");

export class DeviceKey {
  private constructor(
    private readonly pair: CryptoKeyPair,
    readonly publicKey: Uint8Array,
    readonly device: string,
  ) {}

  // A new key, which never leaves Web Crypto where `extractable` is false. A lost key means a new device.
  static async generate(extractable = false): Promise<DeviceKey> {
    return DeviceKey.open(await generate(extractable));
  }

  // A key pair as IndexedDB keeps it.
  static async open(pair: CryptoKeyPair): Promise<DeviceKey> {
    const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    const publicKey = join(ED25519, raw);
    return new DeviceKey(pair, publicKey, toHex(await sha256(publicKey)).slice(0, ID_DIGITS));
  }

  // From 32 bytes of secret, for tests and for keys that are kept elsewhere.
  static async fromSecret(secret: Uint8Array): Promise<DeviceKey> {
    const privateKey = await crypto.subtle.importKey("pkcs8", asSource(join(PKCS8, secret)), "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", privateKey);
    const publicKey = await crypto.subtle.importKey("jwk", { kty: "OKP", crv: "Ed25519", x: x! }, "Ed25519", true, ["verify"]);
    return DeviceKey.open({ privateKey, publicKey });
  }

  get keyPair(): CryptoKeyPair {
    return this.pair;
  }

  async sign(message: Uint8Array): Promise<Uint8Array> {
    return new Uint8Array(await crypto.subtle.sign("Ed25519", this.pair.privateKey, asSource(message)));
  }

  // The record of a check-in, or of a lease given up: good in one deployment alone, which is signed and not sent.
  async signCheckin(said: Value, deployment: Uint8Array): Promise<Uint8Array> {
    const payload = encode(said);
    return encode([payload, await this.sign(join(CHECKIN, deployment, payload))]);
  }

  // The record of an update, whose lease names the deployment.
  async signUpdate(said: Value): Promise<Uint8Array> {
    const payload = encode(said);
    return encode([payload, await this.sign(payload)]);
  }
}

export async function isSigned(message: Uint8Array, signature: Uint8Array, rawPublicKey: Uint8Array): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("raw", asSource(rawPublicKey), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, asSource(signature), asSource(message));
  } catch {
    return false;
  }
}

async function generate(extractable: boolean): Promise<CryptoKeyPair> {
  try {
    return (await crypto.subtle.generateKey("Ed25519", extractable, ["sign", "verify"])) as CryptoKeyPair;
  } catch (error) {
    throw new FedlogError("not_supported", "this browser's Web Crypto has no Ed25519; it came with Chromium 137", { cause: error });
  }
}
