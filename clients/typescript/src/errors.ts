// What goes wrong, by a code that a program can look at.

export type FedlogCode =
  | "malformed"
  | "not_trusted"
  | "not_finite"
  | "body_invalid"
  | "refused"
  | "unavailable"
  | "not_supported";

export class FedlogError extends Error {
  constructor(
    readonly code: FedlogCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "FedlogError";
  }
}
