// The same for `import`. Both forms share one module, so that an error is an instance of the same class in both.
export * from './client.js';
