// Whom a device believes: those roles whose keys the operator has certified, for what each of them says.

import { areEqual, fromHex, toHex } from "./bytes.js";
import { asBytes, asCount, asList, asMap, asText, decode, decodeAnyForm, type Value } from "./canonical.js";
import { FedlogError } from "./errors.js";
import { isSigned } from "./keys.js";

const REMEMBERED_MAX = 64;
// Written by fedlog with its keys in order, so that taking it out leaves what was signed.
const SIGNATURE = /,"signature":"([0-9a-f]{128})"/;

interface Certificate {
  role: string;
  publicKey: Uint8Array;
  deployment: Uint8Array;
  untilMs: number;
}

export class Trust {
  private readonly known = new Map<string, Certificate>();

  // `operator`: the operator's public key, 32 bytes. `deployment` undefined believes the roles of any.
  constructor(
    readonly operator: Uint8Array,
    readonly deployment?: Uint8Array,
  ) {}

  // What the role said in a record that was appended at `atMs`. Raises FedlogError for anybody else's word.
  async read(record: Uint8Array, role: string, atMs: number): Promise<Value> {
    return decode(await this.readPayload(record, role, atMs));
  }

  // A word of the operator, or of a server that the operator lets create tasks.
  async readCreation(record: Uint8Array, atMs: number): Promise<Value> {
    const isServed = asList(decode(record)).length === 3;
    const payload = isServed ? await this.readPayload(record, "steward", atMs) : await this.readSigned(record);
    return decodeAnyForm(payload);
  }

  // What the role, or the operator, announced in a record of `published`, without its signature.
  async readStatement(record: string, role: string): Promise<any> {
    const signed = record.replace(SIGNATURE, "");
    // What is read is what was signed, wherever in the record the signature stood.
    const said = parseJson(signed);
    const by = readHex(said?.signedby);
    if (!areEqual(by, this.operator)) {
      this.requireRole(await this.readCertificate(readHex(said.certificate)), role, Date.parse(said.time), by);
    }
    const signature = readHex(SIGNATURE.exec(record)?.[1]);
    if (!(await isSigned(new TextEncoder().encode(signed), signature, by))) throw refuse(`the ${role}'s signature does not hold`);
    return said;
  }

  private async readPayload(record: Uint8Array, role: string, atMs: number): Promise<Uint8Array> {
    const [payload, signature, certificate] = asList(decode(record), 3).map(asBytes) as [Uint8Array, Uint8Array, Uint8Array];
    const found = await this.readCertificate(certificate);
    this.requireRole(found, role, atMs);
    if (!(await isSigned(payload, signature, found.publicKey))) throw refuse(`the ${role}'s signature does not hold`);
    return payload;
  }

  // `by`: the key that a record names beside its certificate, where it names one.
  private requireRole(found: Certificate, role: string, atMs: number, by = found.publicKey): void {
    if (found.role !== role) throw refuse(`a ${role} was expected, and a ${found.role} spoke`);
    // A moment that cannot be read is in no certificate's time.
    if (!(atMs <= found.untilMs)) throw refuse(`the certificate of the ${role} is over`);
    if (this.deployment && !areEqual(this.deployment, found.deployment)) throw refuse("it is of another deployment");
    if (!areEqual(by, found.publicKey)) throw refuse("the certificate is of another key");
  }

  private async readSigned(record: Uint8Array): Promise<Uint8Array> {
    const [payload, signature] = asList(decode(record), 2).map(asBytes) as [Uint8Array, Uint8Array];
    if (!(await isSigned(payload, signature, this.operator))) throw refuse("the operator has not signed this");
    return payload;
  }

  private async readCertificate(data: Uint8Array): Promise<Certificate> {
    const name = toHex(data);
    const known = this.known.get(name);
    if (known) return known;
    const said = asMap(decode(await this.readSigned(data)), "Certificate/1");
    const found = {
      role: asText(said["role"]),
      publicKey: asBytes(said["public_key"]),
      deployment: asBytes(said["deployment"]),
      untilMs: asCount(said["until_ms"]),
    };
    // Only what the operator signed is remembered, so that strangers cannot fill the memory.
    if (this.known.size >= REMEMBERED_MAX) this.known.clear();
    this.known.set(name, found);
    return found;
  }
}

function parseJson(written: string): any {
  try {
    return JSON.parse(written);
  } catch (error) {
    throw new FedlogError("malformed", `no JSON: ${String(error)}`, { cause: error });
  }
}

function readHex(digits: unknown): Uint8Array {
  if (typeof digits === "string" && /^([0-9a-f]{2})+$/.test(digits)) return fromHex(digits);
  throw new FedlogError("malformed", "hex digits were expected");
}

function refuse(why: string): FedlogError {
  return new FedlogError("not_trusted", why);
}
