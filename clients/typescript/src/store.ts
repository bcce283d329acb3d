// Where a device keeps its key and what it has not yet handed in: it may be closed, reloaded or killed at any moment.

// `Value` of IndexedDB: texts, numbers, bytes, typed arrays, objects of these, and key pairs that are not extractable.
export interface Store {
  get(name: string): Promise<unknown>;
  // All of them or none; undefined removes.
  put(entries: { [name: string]: unknown }): Promise<void>;
}

export class MemoryStore implements Store {
  private readonly entries = new Map<string, unknown>();

  async get(name: string): Promise<unknown> {
    return this.entries.get(name);
  }

  async put(entries: { [name: string]: unknown }): Promise<void> {
    for (const [name, value] of Object.entries(entries)) this.entries.set(name, value);
  }
}

// The store of a browser: one database, in which a put is one transaction.
export class BrowserStore implements Store {
  private constructor(private readonly database: IDBDatabase) {}

  static async open(name = "fedlog"): Promise<BrowserStore> {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("entries");
    return new BrowserStore(await settle(opening));
  }

  async get(name: string): Promise<unknown> {
    return settle(this.database.transaction("entries").objectStore("entries").get(name));
  }

  put(entries: { [name: string]: unknown }): Promise<void> {
    const transaction = this.database.transaction("entries", "readwrite", { durability: "strict" });
    const kept = transaction.objectStore("entries");
    for (const [name, value] of Object.entries(entries)) {
      if (value === undefined) kept.delete(name);
      else kept.put(value, name);
    }
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

function settle<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
