// What the row of a host says.

export const PHASES = ["LocalBoot", "Held", "Assigned", "Offered", "Installing", "Installed", "Failed"];
export const why = (row) => (row.stall ? row.stall.title : row.isNew ? "new machine" : (row.note ?? ""));
export const needsYou = (row) => Boolean(row.stall || row.isNew || row.phase === "Failed");
/** Returns the group of the strip "needs you" that a host belongs to. */
export const groupOf = (row) =>
  row.stall ? row.stall.reason : row.phase === "Failed" ? "failed" : row.isNew ? "new" : null;

/** Returns the power state of a host; with what goes on, if something does. */
export function powerText(row) {
  if (!row.power || !row.target) return row.power ?? "";
  return row.target === row.power ? (row.transition ?? "").split(":")[0] : `${row.power} → ${row.target}`;
}
